// Egress pools: what can be leased, and how much of it is.

import { list, type PoolView } from '../api/client';
import { count } from '../format';
import { type Column, Meter, Shown, Table } from '../parts/basics';
import { useFilter } from '../parts/filter';
import { useRead } from '../state/read';

/** What the page reads of a pool's document. */
interface Document {
  spec?: { group?: string; addresses?: string[]; location?: { city?: string; country?: string } };
}

function specOf(pool: PoolView) {
  return (pool.document as Document).spec ?? {};
}

/** A share with the figures that it is made of. */
function Part({ pool, what, used, all }: { pool: string; what: string; used: number; all: number }) {
  if (all === 0) return <span class="muted">none</span>;
  return (
    <span class="part">
      <Meter value={used / all} label={`${what} of ${pool} in use`} />
      <span class="muted">
        {count(used)} of {count(all)}
      </span>
    </span>
  );
}

const COLUMNS: Column<PoolView>[] = [
  { name: 'Pool', show: (pool) => pool.name },
  { name: 'Group', show: (pool) => specOf(pool).group ?? '' },
  {
    name: 'Blocks in use',
    show: (pool) => (
      <Part
        pool={pool.name}
        what="Blocks"
        used={pool.blocksLeased + pool.blocksQuarantined}
        all={pool.blocksTotal}
      />
    ),
  },
  { name: 'In quarantine', isFigure: true, from: 'medium', show: (pool) => count(pool.blocksQuarantined) },
  {
    name: 'IPv6 /64 in use',
    from: 'medium',
    show: (pool) => (
      <Part
        pool={pool.name}
        what="IPv6 /64"
        used={pool.prefixesLeased + pool.prefixesQuarantined}
        all={pool.prefixesTotal}
      />
    ),
  },
  { name: 'Addresses', from: 'wide', show: (pool) => specOf(pool).addresses?.join(', ') ?? '' },
  {
    name: 'Place',
    from: 'wide',
    show: (pool) => [specOf(pool).location?.city, specOf(pool).location?.country].filter(Boolean).join(', '),
  },
];

export function Pools() {
  const seen = useRead('pools', () => list('/v1/egress-pools'));
  const filter = useFilter(
    'Filter pools',
    (pool: PoolView) => `${pool.name} ${JSON.stringify(pool.document)}`,
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(pools) => (
          <section class="card" aria-label="All egress pools">
            <Table
              label="Egress pools"
              columns={COLUMNS}
              rows={filter.keep(pools.items)}
              keyOf={(pool) => pool.name}
              none="No egress pools. `persona-ctl egress add` makes one."
            />
          </section>
        )}
      </Shown>
    </>
  );
}
