// How edges and nodes are, in a word and a tone: the same in tables, on the map and in lists of what needs attention.

import type { EdgeView, NodeView, WorkloadView } from '../api/client';
import type { Tone } from '../parts/basics';

/** How something is. */
export interface Health {
  tone: Tone;
  word: string;
}

const TONES: Tone[] = ['good', 'idle', 'warn', 'bad'];

/** The worst of some; good where there is none. */
export function worst(of: Health[]): Tone {
  return of.reduce<Tone>(
    (most, it) => (TONES.indexOf(it.tone) > TONES.indexOf(most) ? it.tone : most),
    'good',
  );
}

export function edgeHealth(edge: EdgeView): Health {
  if (edge.revoked) return { tone: 'bad', word: 'revoked' };
  if (edge.maintenance) return { tone: 'idle', word: 'in maintenance' };
  if (edge.state !== 'up') return { tone: edge.state === 'down' ? 'bad' : 'idle', word: edge.state };
  if (edge.leaving) return { tone: 'warn', word: 'leaving' };
  if (edge.draining) return { tone: 'idle', word: 'draining' };
  if (edge.rejected) return { tone: 'bad', word: 'rejects its state' };
  if (edge.flags.length > 0) return { tone: 'warn', word: 'degraded' };
  return { tone: 'good', word: 'up' };
}

export function nodeHealth(node: NodeView): Health {
  if (node.revoked) return { tone: 'bad', word: 'revoked' };
  if (!node.up) return { tone: 'bad', word: 'silent' };
  if (node.cutOff) return { tone: 'bad', word: 'cut off' };
  if (node.rejected) return { tone: 'bad', word: 'rejects its state' };
  if (node.draining) return { tone: 'idle', word: 'draining' };
  if (node.applied !== node.desired) return { tone: 'warn', word: 'behind' };
  return { tone: 'good', word: 'up' };
}

export function workloadHealth(workload: WorkloadView): Health {
  const { assignment } = workload;
  if (!workload.attached) return { tone: 'idle', word: 'not attached' };
  if (Object.keys(assignment.sections).length === 0) return { tone: 'warn', word: 'wears nothing' };
  if (!assignment.inForce) return { tone: 'warn', word: 'on its way' };
  return { tone: 'good', word: 'in force' };
}
