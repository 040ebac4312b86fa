// All nodes.

import { list, type NodeView } from '../api/client';
import { count } from '../format';
import { type Column, Shown, State, Table, Time } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to } from '../router';
import { nodeHealth } from '../state/health';
import { useRead } from '../state/read';

/** Rows that are drawn. */
const SHOWN_MAX = 500;

const COLUMNS: Column<NodeView>[] = [
  { name: 'Node', show: (node) => <a href={to('nodes', node.name)}>{node.name}</a> },
  { name: 'State', show: (node) => <State tone={nodeHealth(node).tone}>{nodeHealth(node).word}</State> },
  { name: 'Leases', isFigure: true, show: (node) => count(node.leaseCount) },
  { name: 'Flows', isFigure: true, from: 'medium', show: (node) => count(node.liveSlotCount) },
  {
    name: 'Edges heard',
    isFigure: true,
    from: 'medium',
    show: (node) => `${node.edges.filter((edge) => edge.alive).length} of ${node.edges.length}`,
  },
  { name: 'Address', from: 'wide', show: (node) => node.address },
  { name: 'Place', from: 'medium', show: (node) => node.labels.city ?? node.labels.country ?? '' },
  { name: 'Last report', from: 'wide', show: (node) => <Time ms={node.seenMs} /> },
];

export function Nodes() {
  const seen = useRead('nodes', () => list('/v1/nodes'));
  const filter = useFilter('Filter nodes', (node: NodeView) =>
    [node.name, node.address, nodeHealth(node).word, ...Object.values(node.labels)].join(' '),
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(nodes) => {
          const kept = filter.keep(nodes.items);
          return (
            <section class="card" aria-label="All nodes">
              <Cut list={nodes} shown={kept.length} />
              <Table
                label="Nodes"
                columns={COLUMNS}
                rows={kept.slice(0, SHOWN_MAX)}
                keyOf={(node) => node.name}
                none="No nodes. `persona-ctl token create --role node` makes a token to join with."
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
