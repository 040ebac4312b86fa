// Why a subject wears what it wears: everything that was considered, what each was refused for, what would change it.

import type { ComponentChildren } from 'preact';
import { type Explanation, get, type LeaseView, list, type PersonaView, post, remove } from '../api/client';
import { ask } from '../parts/ask';
import { Card, Facts, Marks, Meter, Shown, State, Table, Time } from '../parts/basics';
import { to } from '../router';
import { nodeOf } from '../state/places';
import { useRead } from '../state/read';
import { mayOperate } from '../state/session';
import { Moving, Watched } from './watched';

export function Subject({ subject }: { subject: string }) {
  const seen = useRead(`subject ${subject}`, async () => {
    const [explanation, rollouts] = await Promise.all([
      get('/v1/explain/{subject}', { subject }),
      list('/v1/rollouts'),
    ]);
    return { explanation, rollouts: rollouts.items };
  });
  return (
    <Shown of={seen}>
      {({ explanation, rollouts }) => (
        <>
          <p class="lead">
            On <a href={to('nodes', nodeOf(subject))}>node {nodeOf(subject)}</a>.{' '}
            <InForce explanation={explanation} />
          </p>
          {mayOperate.value && <Actions subject={subject} explanation={explanation} again={seen.again} />}
          <Worn explanation={explanation} />
          <Moving explanation={explanation} rollouts={rollouts} />
          <Watched explanation={explanation} />
          <Personas explanation={explanation} />
          <Edges explanation={explanation} />
          <Activation explanation={explanation} />
          <div class="columns">
            <Leases explanation={explanation} />
            <Effective explanation={explanation} />
          </div>
        </>
      )}
    </Shown>
  );
}

function InForce({ explanation: { assignment } }: { explanation: Explanation }) {
  if (Object.keys(assignment.sections).length === 0) return <State tone="warn">wears nothing</State>;
  return assignment.inForce ? (
    <State tone="good">in force</State>
  ) : (
    <State tone="warn">on its way to the node and its edges</State>
  );
}

/** Times for which a switch can be made. */
const TIMES: [string, number][] = [
  ['until it is taken back', 0],
  ['10 minutes', 600_000],
  ['1 hour', 3_600_000],
  ['8 hours', 8 * 3_600_000],
  ['1 day', 86_400_000],
];

function Actions({
  subject,
  explanation,
  again,
}: {
  subject: string;
  explanation: Explanation;
  again: () => void;
}) {
  const isManual = Object.values(explanation.assignment.sections).some(
    (section) => section.layer === 'manual',
  );
  const change = async () => {
    const personas = (await list('/v1/personas')).items;
    ask({ ...switching(subject, personas, again) });
  };
  const release = () =>
    ask({
      title: `Take the switch of ${subject} back?`,
      body: (
        <p>
          It wears again what its bindings, its criteria and its requests say. Established connections go on.
        </p>
      ),
      verb: 'Release',
      act: async () => {
        await remove('/v1/switch/{subject}', { subject });
        again();
        return `The switch of ${subject} was taken back.`;
      },
    });
  return (
    <div class="actions">
      <button type="button" onClick={() => void change()}>
        Switch
      </button>
      {isManual && (
        <button type="button" onClick={release}>
          Release
        </button>
      )}
    </div>
  );
}

function switching(subject: string, personas: PersonaView[], again: () => void) {
  const body = (
    <>
      <p>New connections leave under the persona that you choose. Established ones go on as they are.</p>
      <label for="persona">Persona</label>
      <select id="persona" name="persona" required>
        {personas.map((persona) => (
          <option key={persona.name} value={persona.name}>
            {persona.name}
          </option>
        ))}
      </select>
      <label for="for">For</label>
      <select id="for" name="for">
        {TIMES.map(([name, ms]) => (
          <option key={name} value={ms}>
            {name}
          </option>
        ))}
      </select>
    </>
  );
  return {
    title: `Switch ${subject}`,
    body,
    verb: 'Switch',
    act: async (form: FormData) => {
      const [persona, forMs] = [String(form.get('persona')), Number(form.get('for'))];
      await post('/v1/switch', {}, { subject, persona, ...(forMs > 0 ? { forMs } : {}) });
      again();
      return `${subject} was switched to ${persona}.`;
    },
  };
}

function Worn({ explanation: { assignment } }: { explanation: Explanation }) {
  return (
    <Card id="worn" title="What it wears">
      <Table
        label="Sections"
        rows={Object.entries(assignment.sections)}
        keyOf={([section]) => section}
        none="Nothing: no binding names a persona that it could wear now."
        columns={[
          { name: 'Section', show: ([section]) => section },
          {
            name: 'Persona',
            show: ([, it]) => (
              <>
                <a href={to('personas', it.persona)}>{it.persona}</a>
                <span class="muted">@{it.version}</span>
              </>
            ),
          },
          { name: 'Decided by', show: ([, it]) => LAYERS[it.layer] ?? it.layer },
          { name: 'Why', from: 'medium', show: ([, it]) => it.reason },
          {
            name: 'Until',
            from: 'medium',
            show: ([, it]) => (it.untilMs == null ? '' : <Time ms={it.untilMs} />),
          },
        ]}
      />
    </Card>
  );
}

/** The layers in words, the weakest first. */
const LAYERS: Record<string, string> = {
  nodeDefault: 'the node’s default',
  binding: 'a binding',
  activation: 'its criteria',
  request: 'a request',
  manual: 'a person',
};

/** What was considered, the chosen one first as the manager has it. */
interface Candidate {
  name: ComponentChildren;
  key: string;
  isChosen: boolean;
  refusals: string[];
  scores: Record<string, number>;
  hint: string | null | undefined;
  more?: ComponentChildren;
}

function Candidates({ of, label, none }: { of: Candidate[]; label: string; none: string }) {
  if (of.length === 0) return <p class="none">{none}</p>;
  const totals = of.filter((it) => Object.keys(it.scores).length > 0).map((it) => totalOf(it.scores));
  const scale = { least: Math.min(...totals), most: Math.max(...totals) };
  return (
    <ol class="candidates" aria-label={label}>
      {of.map((it) => (
        <li key={it.key} class={it.isChosen ? 'chosen' : ''}>
          <div class="name">
            {it.name}
            {it.isChosen ? (
              <State tone="good">chosen</State>
            ) : it.refusals.length > 0 ? (
              <State tone="bad">refused</State>
            ) : (
              <State tone="idle">could be</State>
            )}
            {it.more}
          </div>
          <div class="why">
            {it.refusals.length > 0 && (
              <ul>
                {it.refusals.map((refusal) => (
                  <li key={refusal}>{refusal}</li>
                ))}
              </ul>
            )}
            {Object.keys(it.scores).length > 0 && <Scores scores={it.scores} scale={scale} />}
            {it.hint && (
              <p class="hint">
                <strong>What would change it:</strong> {it.hint}
              </p>
            )}
          </div>
        </li>
      ))}
    </ol>
  );
}

function totalOf(scores: Record<string, number>): number {
  return Object.values(scores).reduce((sum, it) => sum + it, 0);
}

/** The least bar: what came last is still there. */
const BAR_LEAST = 0.06;

function Scores({
  scores,
  scale,
}: {
  scores: Record<string, number>;
  scale: { least: number; most: number };
}) {
  const total = totalOf(scores);
  const range = scale.most - scale.least;
  const part = range > 0 ? BAR_LEAST + (1 - BAR_LEAST) * ((total - scale.least) / range) : 1;
  const terms = Object.entries(scores).filter(([, points]) => points !== 0);
  return (
    <div class="scores">
      <span class="bar good" aria-hidden="true">
        <span class="fill" style={{ width: `${part * 100}%` }} />
      </span>
      <span>
        <strong>{points(total)}</strong>
        {terms.length > 0 && (
          <span class="muted">
            {' '}
            ={' '}
            {terms
              .map(([name, it]) => `${name} ${points(it)}`)
              .join(' + ')
              .replaceAll('+ −', '− ')}
          </span>
        )}
      </span>
    </div>
  );
}

function points(value: number): string {
  return value
    .toFixed(2)
    .replace(/\.?0+$/, '')
    .replace('-', '−');
}

function Personas({ explanation }: { explanation: Explanation }) {
  const of = explanation.considered.map((it) => ({
    name: (
      <span>
        <a href={to('personas', it.persona)}>{it.persona}</a>
        <span class="muted">@{it.version}</span>
      </span>
    ),
    key: it.persona,
    isChosen: it.chosen,
    refusals: it.refusals,
    scores: it.scores,
    hint: it.hint,
  }));
  return (
    <Card
      id="personas"
      title="Personas considered"
      aside={<span class="muted">for the network section</span>}
    >
      <Candidates of={of} label="Personas considered" none="None: no binding names one for it." />
    </Card>
  );
}

function Edges({ explanation: { edges } }: { explanation: Explanation }) {
  const of = (edges?.considered ?? []).map((it) => ({
    name: <a href={to('edges', it.edge)}>{it.edge}</a>,
    key: it.edge,
    isChosen: it.chosen,
    refusals: it.refusals,
    scores: it.scores,
    hint: it.hint,
    more: <Meter value={it.fullness} label={`How full ${it.edge} would be`} word="full" />,
  }));
  return (
    <Card
      id="edges"
      title="Edges considered"
      aside={
        edges && <span class="muted">{edges.mode === 'steer' ? 'the plan takes effect' : 'as advice'}</span>
      }
    >
      {edges && <p>{edges.reason}</p>}
      <Candidates
        of={of}
        label="Edges considered"
        none="None: it holds no lease, or not every edge of its group states what it can carry."
      />
    </Card>
  );
}

function Activation({ explanation: { activation } }: { explanation: Explanation }) {
  if (!activation) return null;
  return (
    <Card
      id="activation"
      title="Criteria"
      aside={
        <span class="muted">
          switched {activation.switchCount} of {activation.switchCountMax} times
        </span>
      }
    >
      {activation.reason && <p>{activation.reason}</p>}
      {activation.heldBack && <p class="trouble">{activation.heldBack}</p>}
      {activation.trouble && <p class="trouble">{activation.trouble}</p>}
      <ul class="rules">
        {activation.personas.flatMap((persona) =>
          persona.rules.map((rule) => (
            <li key={`${persona.persona} ${rule.when}`}>
              <strong>{persona.persona}</strong> when <code>{rule.when}</code>
              <p class="muted">{rule.verdict}</p>
            </li>
          )),
        )}
      </ul>
    </Card>
  );
}

function Leases({ explanation: { lease, lease6 } }: { explanation: Explanation }) {
  const all = [lease, lease6].filter((it): it is LeaseView => it != null);
  return (
    <Card id="leases" title="Where it leaves from">
      {all.length === 0 && <p class="none">It holds no lease.</p>}
      {all.map((it) => (
        <Facts
          key={it.id}
          of={[
            [
              'Leased',
              'prefix' in it ? String(it.prefix) : String((it as { address?: string }).address ?? ''),
            ],
            [
              'Ports',
              it.ports.length > 0 ? it.ports.map(([first, last]) => `${first}–${last}`).join(', ') : 'all',
            ],
            ['Pool', it.pool],
            ['State', it.state],
            ['Full', it.use ? `${it.use.liveSlotCount} flows` : 'not said'],
            [
              'Kind',
              <Marks
                of={[it.configured ? 'configured' : 'rewritten', ...(it.encrypted ? ['encrypted'] : [])]}
                key="kind"
              />,
            ],
          ]}
        />
      ))}
    </Card>
  );
}

function Effective({ explanation: { effective } }: { explanation: Explanation }) {
  return (
    <Card id="effective" title="What comes from where">
      <Table
        label="Effective fields"
        rows={effective}
        keyOf={(field) => field.path}
        none="Nothing is in force."
        columns={[
          { name: 'Field', show: (field) => <code>{field.path}</code> },
          { name: 'Value', show: (field) => shown(field.value) },
          {
            name: 'From',
            from: 'medium',
            show: (field) => `${field.persona}, ${LAYERS[field.layer] ?? field.layer}`,
          },
        ]}
      />
    </Card>
  );
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
