// All rollouts: what each changes, how far it is, and whether it waits for somebody.

import { list, type RolloutView } from '../api/client';
import { type Column, Progress, Shown, State, Table, Time } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to } from '../router';
import { useRead } from '../state/read';
import { changeOf, rolloutHealth } from '../state/rollouts';

/** Rows that are drawn. */
const SHOWN_MAX = 500;

const COLUMNS: Column<RolloutView>[] = [
  { name: 'Rollout', show: (it) => <a href={to('rollouts', it.name)}>{it.name}</a> },
  { name: 'Phase', show: (it) => <State tone={rolloutHealth(it).tone}>{rolloutHealth(it).word}</State> },
  { name: 'Change', show: changeOf },
  { name: 'Wave', isFigure: true, show: (it) => `${it.wave} of ${it.waves.length}` },
  {
    name: 'Moved',
    show: (it) => <Progress done={it.moved} of={it.members} label={`Moved by ${it.name}`} />,
  },
  { name: 'Why', from: 'medium', show: (it) => it.reason ?? it.waiting ?? '' },
  { name: 'Started by', from: 'wide', show: (it) => it.startedBy.split('/web/')[0] },
  { name: 'Changed', from: 'wide', show: (it) => <Time ms={it.changedMs} /> },
];

export function Rollouts() {
  const seen = useRead('rollouts', () => list('/v1/rollouts'));
  const filter = useFilter('Filter rollouts', (it: RolloutView) =>
    [it.name, rolloutHealth(it).word, changeOf(it), it.startedBy].join(' '),
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(rollouts) => {
          const kept = filter.keep(rollouts.items).sort((one, other) => other.startedMs - one.startedMs);
          return (
            <section class="card" aria-label="All rollouts">
              <Cut list={rollouts} shown={kept.length} />
              <Table
                label="Rollouts"
                columns={COLUMNS}
                rows={kept.slice(0, SHOWN_MAX)}
                keyOf={(it) => it.name}
                none="No rollouts. `persona-ctl rollout start -f FILE` starts one."
              />
            </section>
          );
        }}
      </Shown>
    </>
  );
}
