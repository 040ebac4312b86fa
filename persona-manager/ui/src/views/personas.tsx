// All personas.

import { list, type PersonaView } from '../api/client';
import { count } from '../format';
import { type Column, Marks, Shown, Table, Time } from '../parts/basics';
import { Cut, useFilter } from '../parts/filter';
import { to } from '../router';
import { useRead } from '../state/read';

/** What the page reads of a document. */
export interface Document {
  metadata?: { labels?: Record<string, string> };
  spec?: {
    capabilities?: string[];
    network?: { location?: { city?: string; country?: string }; egress?: { pools?: string[] } };
    [section: string]: unknown;
  };
}

/** The sections that a persona has. */
export function sectionsOf(persona: PersonaView): string[] {
  const spec = (persona.document as Document).spec ?? {};
  return Object.keys(spec).filter((key) => key !== 'capabilities');
}

const COLUMNS: Column<PersonaView>[] = [
  { name: 'Persona', show: (it) => <a href={to('personas', it.name)}>{it.name}</a> },
  { name: 'Version', isFigure: true, show: (it) => it.version },
  { name: 'Wearers', isFigure: true, show: (it) => count(it.wearers) },
  { name: 'Sections', from: 'medium', show: (it) => sectionsOf(it).join(', ') },
  {
    name: 'Capabilities',
    from: 'wide',
    show: (it) => <Marks of={(it.document as Document).spec?.capabilities ?? []} />,
  },
  {
    name: 'Pools',
    from: 'wide',
    show: (it) => (it.document as Document).spec?.network?.egress?.pools?.join(', ') ?? '',
  },
  { name: 'Stored', from: 'medium', show: (it) => <Time ms={it.createdMs} /> },
];

export function Personas() {
  const seen = useRead('personas', () => list('/v1/personas'));
  const filter = useFilter(
    'Filter personas',
    (it: PersonaView) => `${it.name} ${JSON.stringify(it.document)}`,
  );
  return (
    <>
      {filter.field}
      <Shown of={seen}>
        {(personas) => {
          const kept = filter.keep(personas.items);
          return (
            <section class="card" aria-label="All personas">
              <Cut list={personas} shown={kept.length} />
              <Table
                label="Personas"
                columns={COLUMNS}
                rows={kept}
                keyOf={(it) => it.name}
                none="No personas. `persona-ctl persona apply -f FILE` stores one."
              />
            </section>
          );
        }}
      </Shown>
    </>
  );
}
