import { describe, expect, it } from 'vitest';
import { yaml } from './yaml';

describe('a document', () => {
  it('is shown as people write it', () => {
    const document = {
      kind: 'Persona',
      metadata: { name: 'eu', labels: {} },
      spec: {
        capabilities: ['low-latency', 'no'],
        network: { mtu: 1400, location: { country: 'NO' } },
        software: [{ package: 'nginx', version: '>= 1.22' }, { package: 'curl' }],
      },
    };
    expect(yaml(document)).toBe(`kind: Persona
metadata:
  name: eu
  labels: {}
spec:
  capabilities: [low-latency, "no"]
  network:
    mtu: 1400
    location:
      country: "NO"
  software:
    - package: nginx
      version: ">= 1.22"
    - package: curl
`);
  });
});
