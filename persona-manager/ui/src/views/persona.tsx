// One persona: who wears it, its versions, and the document of each.

import { useSignal } from '@preact/signals';
import { list, type PersonaView, type WorkloadView } from '../api/client';
import { many } from '../format';
import { Card, Shown, Table, Time } from '../parts/basics';
import { toSubject } from '../router';
import { useRead } from '../state/read';
import { yaml } from '../yaml';

/** Wearers that are named. */
const NAMED_MAX = 200;

export function Persona({ name }: { name: string }) {
  const seen = useRead(`persona ${name}`, async () => {
    const [versions, workloads] = await Promise.all([
      list('/v1/personas/{name}/versions', { name }),
      list('/v1/workloads'),
    ]);
    const newestFirst = versions.items.toSorted((one, other) => other.version - one.version);
    return { versions: newestFirst, workloads: workloads.items };
  });
  return (
    <Shown of={seen}>
      {({ versions, workloads }) => <Whole name={name} versions={versions} workloads={workloads} />}
    </Shown>
  );
}

function Whole({
  name,
  versions,
  workloads,
}: {
  name: string;
  versions: PersonaView[];
  workloads: WorkloadView[];
}) {
  const chosen = useSignal<number | null>(null);
  const shown = versions.find((it) => it.version === chosen.value) ?? versions[0];
  const wearers = workloads.flatMap((workload) => {
    const sections = Object.entries(workload.assignment.sections).filter(([, it]) => it.persona === name);
    const version = sections[0]?.[1].version;
    return version === undefined
      ? []
      : [{ workload, version, sections: sections.map(([section]) => section) }];
  });
  if (!shown) return <p class="none">It has no versions.</p>;
  return (
    <>
      <p class="lead">
        Id {shown.vni} on the wire; {many(versions[0]?.wearers ?? 0, 'wearer')}.
      </p>
      <div class="columns">
        <Card id="versions" title="Versions">
          <ol class="rows">
            {versions.map((it) => (
              <li key={it.version}>
                <button
                  type="button"
                  aria-pressed={it === shown}
                  onClick={() => {
                    chosen.value = it.version;
                  }}
                >
                  Version {it.version}
                </button>
                <span class="muted">
                  <Time ms={it.createdMs} />, <code>{it.digest.slice(0, 12)}</code>
                </span>
              </li>
            ))}
          </ol>
        </Card>
        <Card id="document" title={`Document of version ${shown.version}`}>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard */}
          <pre tabIndex={0}>{yaml(shown.document)}</pre>
        </Card>
      </div>
      <Card id="wearers" title="Who wears it">
        <Table
          label="Wearers"
          rows={wearers.slice(0, NAMED_MAX)}
          keyOf={({ workload }) => workload.subject}
          none="No workload."
          columns={[
            {
              name: 'Subject',
              show: ({ workload }) => <a href={toSubject(workload.subject)}>{workload.subject}</a>,
            },
            { name: 'Version', isFigure: true, show: ({ version }) => version },
            { name: 'In', show: ({ sections }) => sections.join(', ') },
            {
              name: 'Why',
              from: 'medium',
              show: ({ workload }) =>
                Object.values(workload.assignment.sections).find((it) => it.persona === name)?.reason,
            },
          ]}
        />
        {wearers.length > NAMED_MAX && <p class="muted">and {wearers.length - NAMED_MAX} more</p>}
      </Card>
    </>
  );
}
