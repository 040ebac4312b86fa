// All edges, by group.

import { type EdgeView, list } from '../api/client';
import { bitRate, count } from '../format';
import { type Column, Meter, Shown, State, Table } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to } from '../router';
import { edgeHealth } from '../state/health';
import { useRead } from '../state/read';

const COLUMNS: Column<EdgeView>[] = [
  { name: 'Edge', show: (edge) => <a href={to('edges', edge.name)}>{edge.name}</a> },
  { name: 'Group', from: 'medium', show: (edge) => edge.group },
  { name: 'State', show: (edge) => <State tone={edgeHealth(edge).tone}>{edgeHealth(edge).word}</State> },
  {
    name: 'Full',
    show: (edge) =>
      edge.load?.fullness == null ? (
        <span class="muted">not stated</span>
      ) : (
        <Meter value={edge.load.fullness} label={`How full ${edge.name} is`} />
      ),
  },
  { name: 'Rate', isFigure: true, from: 'medium', show: (edge) => bitRate(edge.bitsPerSec) },
  {
    name: 'Packets',
    isFigure: true,
    from: 'wide',
    show: (edge) => count(edge.load?.packetsPerSec ?? 0, '/s'),
  },
  { name: 'Drops', isFigure: true, from: 'wide', show: (edge) => count(edge.load?.dropsPerSec ?? 0, '/s') },
  { name: 'Leases', isFigure: true, from: 'medium', show: (edge) => count(edge.leaseCount) },
  { name: 'Weight', isFigure: true, from: 'wide', show: (edge) => edge.weight },
  { name: 'Place', from: 'medium', show: (edge) => edge.labels.city ?? edge.labels.country ?? '' },
];

function byGroup(one: EdgeView, other: EdgeView): number {
  return one.group.localeCompare(other.group) || one.name.localeCompare(other.name);
}

export function Edges() {
  const seen = useRead('edges', () => list('/v1/edges'));
  const filter = useFilter('Filter edges', (edge: EdgeView) =>
    [edge.name, edge.group, edge.address, edgeHealth(edge).word, ...Object.values(edge.labels)].join(' '),
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(edges) => {
          const kept = filter.keep(edges.items).toSorted(byGroup);
          return (
            <section class="card" aria-label="All edges">
              <Cut list={edges} shown={kept.length} />
              <Table
                label="Edges"
                columns={COLUMNS}
                rows={kept}
                keyOf={(edge) => edge.name}
                none="No edges. `persona-ctl token create --role edge` makes a token to join with."
              />
            </section>
          );
        }}
      </Shown>
    </>
  );
}
