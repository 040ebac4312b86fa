// All workloads, and what each wears.

import { list, type WorkloadView } from '../api/client';
import { type Column, Shown, State, Table } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to, toSubject } from '../router';
import { workloadHealth } from '../state/health';
import { useRead } from '../state/read';

/** Rows that are drawn. */
const SHOWN_MAX = 500;

/** What is worn, as one way to each persona with its version. */
function worn(workload: WorkloadView): [persona: string, version: number, sections: string[]][] {
  const by = new Map<string, [string, number, string[]]>();
  for (const [section, it] of Object.entries(workload.assignment.sections)) {
    const known = by.get(`${it.persona}@${it.version}`) ?? [it.persona, it.version, []];
    known[2].push(section);
    by.set(`${it.persona}@${it.version}`, known);
  }
  return [...by.values()];
}

export const WORKLOAD_COLUMNS: Column<WorkloadView>[] = [
  {
    name: 'Workload',
    show: (it) => <a href={toSubject(it.subject)}>{it.subject.replace(/^workload\//, '')}</a>,
  },
  { name: 'State', show: (it) => <State tone={workloadHealth(it).tone}>{workloadHealth(it).word}</State> },
  {
    name: 'Wears',
    show: (it) =>
      worn(it).map(([persona, version, sections], index) => (
        <span key={persona}>
          {index > 0 && ', '}
          <a href={to('personas', persona)} title={sections.join(', ')}>
            {persona}
          </a>
          <span class="muted">@{version}</span>
        </span>
      )),
  },
  {
    name: 'Decided by',
    from: 'medium',
    show: (it) =>
      [...new Set(Object.values(it.assignment.sections).map((section) => section.layer))].join(', '),
  },
  { name: 'Address', from: 'wide', show: (it) => it.address ?? it.prefix6 ?? '' },
];

export function Workloads() {
  const seen = useRead('workloads', () => list('/v1/workloads'));
  const filter = useFilter('Filter workloads', (it: WorkloadView) => {
    const sections = Object.values(it.assignment.sections).flatMap((section) => [
      section.persona,
      section.layer,
    ]);
    return [it.subject, it.address, workloadHealth(it).word, ...sections, ...Object.values(it.labels)].join(
      ' ',
    );
  });
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(workloads) => {
          const kept = filter.keep(workloads.items);
          return (
            <section class="card" aria-label="All workloads">
              <Cut list={workloads} shown={kept.length} />
              <Table
                label="Workloads"
                columns={WORKLOAD_COLUMNS}
                rows={kept.slice(0, SHOWN_MAX)}
                keyOf={(it) => it.subject}
                none="No workloads that nodes have found."
              />
              {kept.length > SHOWN_MAX && (
                <p class="muted">and {kept.length - SHOWN_MAX} more; filter to find them</p>
              )}
            </section>
          );
        }}
      </Shown>
    </>
  );
}
