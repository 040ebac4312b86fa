// What a subject is watched for, and which rollout moves it: two parts of its view.

import type { Explanation, RolloutView } from '../api/client';
import { Card, State, Table } from '../parts/basics';
import { to } from '../router';
import { changeOf, isOver, rolloutHealth } from '../state/rollouts';

export function Watched({ explanation: { monitoring } }: { explanation: Explanation }) {
  if (!monitoring) return null;
  return (
    <Card
      id="alerts"
      title="Alerts"
      aside={
        <span class="muted">
          by <a href={to('personas', monitoring.persona)}>{monitoring.persona}</a>@{monitoring.version}
        </span>
      }
    >
      <Table
        label="Alerts that it is watched for"
        rows={monitoring.alerts}
        keyOf={(it) => it.alert}
        none="It is watched for nothing."
        columns={[
          { name: 'Alert', show: (it) => it.alert },
          {
            name: 'State',
            show: (it) => (
              <State tone={it.isRaised ? 'warn' : 'good'}>{it.isRaised ? 'raised' : 'quiet'}</State>
            ),
          },
          { name: 'When', from: 'medium', show: (it) => <code>{it.when}</code> },
          { name: 'Verdict', show: (it) => it.verdict },
        ]}
      />
    </Card>
  );
}

/** Rollouts that are not over and may move it: of a persona that it may wear, or that have switched it. */
export function Moving({ explanation, rollouts }: { explanation: Explanation; rollouts: RolloutView[] }) {
  const { subject } = explanation.assignment;
  const versionOf = (persona: string) => explanation.considered.find((it) => it.persona === persona)?.version;
  const rows = rollouts
    .filter((it) => !isOver(it))
    .flatMap((rollout) => {
      if (!('personas' in rollout.change))
        return rollout.movedSubjects.includes(subject) ? [{ rollout, isMoved: true }] : [];
      const steps = rollout.change.personas.filter((step) => versionOf(step.persona) !== undefined);
      const isMoved = steps.some((step) => versionOf(step.persona) === step.to);
      return steps.length > 0 ? [{ rollout, isMoved }] : [];
    });
  if (rows.length === 0) return null;
  return (
    <Card id="rollouts" title="Rollouts">
      <Table
        label="Rollouts that move it"
        rows={rows}
        keyOf={({ rollout }) => rollout.name}
        none=""
        columns={[
          {
            name: 'Rollout',
            show: ({ rollout }) => <a href={to('rollouts', rollout.name)}>{rollout.name}</a>,
          },
          {
            name: 'Phase',
            show: ({ rollout }) => (
              <State tone={rolloutHealth(rollout).tone}>{rolloutHealth(rollout).word}</State>
            ),
          },
          { name: 'Change', show: ({ rollout }) => changeOf(rollout) },
          {
            name: 'This subject',
            show: ({ isMoved }) => (isMoved ? 'moved' : 'not moved yet, if it is a member'),
          },
        ]}
      />
    </Card>
  );
}
