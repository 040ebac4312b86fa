// Alerts that are raised: whose, why, and since when.

import { type AlertView, list } from '../api/client';
import { type Column, Shown, State, Table, Time } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to, toSubject } from '../router';
import { useRead } from '../state/read';

/** Rows that are drawn. */
const SHOWN_MAX = 500;

const COLUMNS: Column<AlertView>[] = [
  { name: 'Alert', show: (it) => <State tone="warn">{it.alert}</State> },
  { name: 'Of', show: (it) => <a href={toSubject(it.subject)}>{it.subject}</a> },
  { name: 'Why', show: (it) => it.reason },
  {
    name: 'Watched for by',
    from: 'medium',
    show: (it) => (
      <>
        <a href={to('personas', it.persona)}>{it.persona}</a>
        <span class="muted">@{it.version}</span>
      </>
    ),
  },
  { name: 'Since', show: (it) => <Time ms={it.sinceMs} /> },
];

export function Alerts() {
  const seen = useRead('alerts', () => list('/v1/alerts'));
  const filter = useFilter('Filter alerts', (it: AlertView) =>
    [it.alert, it.subject, it.persona, it.reason].join(' '),
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(alerts) => {
          const kept = filter.keep(alerts.items);
          return (
            <section class="card" aria-label="All alerts">
              <Cut list={alerts} shown={kept.length} />
              <Table
                label="Alerts"
                columns={COLUMNS}
                rows={kept.slice(0, SHOWN_MAX)}
                keyOf={(it) => `${it.subject} ${it.alert}`}
                none="No alert is raised. `monitoring` of a persona says what raises one."
              />
            </section>
          );
        }}
      </Shown>
    </>
  );
}
