// How rollouts are, in a word and a tone, and what can be told to them.

import type { RolloutView } from '../api/client';
import type { Health } from './health';

const PHASES: Record<RolloutView['phase'], Health> = {
  observing: { tone: 'idle', word: 'observing' },
  soaking: { tone: 'good', word: 'soaking' },
  paused: { tone: 'warn', word: 'paused' },
  halted: { tone: 'bad', word: 'halted' },
  aborted: { tone: 'warn', word: 'aborted' },
  done: { tone: 'good', word: 'done' },
  rolledBack: { tone: 'idle', word: 'rolled back' },
};

export function rolloutHealth(rollout: RolloutView): Health {
  return PHASES[rollout.phase];
}

/** Whether it is over, and holds nothing any more. */
export function isOver(rollout: RolloutView): boolean {
  return rollout.phase === 'done' || rollout.phase === 'rolledBack';
}

/** What it changes, in words. */
export function changeOf({ change }: RolloutView): string {
  if ('personas' in change)
    return change.personas.map((step) => `${step.persona} ${step.from} → ${step.to}`).join(', ');
  return `switch to ${change.switch.persona}`;
}

/** What can be told to it now. */
export type Verb = 'pause' | 'resume' | 'abort' | 'rollback';

export function verbsOf(rollout: RolloutView): Verb[] {
  switch (rollout.phase) {
    case 'observing':
    case 'soaking':
      return ['pause', 'abort', 'rollback'];
    case 'paused':
    case 'halted':
      return ['resume', 'abort', 'rollback'];
    case 'aborted':
      return ['rollback'];
    default:
      return [];
  }
}
