// One rollout: its waves, what its gate sees beside what it lets pass, who was moved, and what somebody may tell it.

import { get, post, type RolloutView } from '../api/client';
import { share, span } from '../format';
import { ask } from '../parts/ask';
import { Card, Facts, Progress, Shown, State, Table, Time } from '../parts/basics';
import { to, toSubject } from '../router';
import { useRead } from '../state/read';
import { changeOf, isOver, rolloutHealth, type Verb, verbsOf } from '../state/rollouts';
import { mayRollOut } from '../state/session';

export function Rollout({ name }: { name: string }) {
  const seen = useRead(`rollout ${name}`, () => get('/v1/rollouts/{name}', { name }));
  return (
    <Shown of={seen}>
      {(rollout) => (
        <>
          <p class="lead">
            <State tone={rolloutHealth(rollout).tone}>{rolloutHealth(rollout).word}</State>{' '}
            {changeOf(rollout)}
            {rollout.reason ? `: ${rollout.reason}` : ''}
          </p>
          {rollout.waiting && <p class="trouble">It waits: {rollout.waiting}</p>}
          {mayRollOut.value && <Actions rollout={rollout} again={seen.again} />}
          <Waves rollout={rollout} />
          <div class="columns">
            <Gate rollout={rollout} />
            <About rollout={rollout} />
          </div>
          <Moved rollout={rollout} />
        </>
      )}
    </Shown>
  );
}

/** What each order does, for whoever is asked. */
const ORDERS: Record<Verb, { verb: string; does: string; done: string }> = {
  pause: { verb: 'Pause', does: 'Nobody else is moved until it is resumed.', done: 'waits' },
  resume: { verb: 'Resume', does: 'The wave is watched anew, and the next ones follow.', done: 'goes on' },
  abort: { verb: 'Abort', does: 'Nobody else is moved; who was moved stays moved.', done: 'is given up' },
  rollback: {
    verb: 'Roll back',
    does: 'Everybody gets back exactly what it had. Established connections go on.',
    done: 'was taken back',
  },
};

function Actions({ rollout, again }: { rollout: RolloutView; again: () => void }) {
  const { name } = rollout;
  const tell = (order: Verb) => {
    const { verb, does, done } = ORDERS[order];
    ask({
      title: `${verb} rollout ${name}?`,
      body: (
        <>
          <p>{does}</p>
          <label for="reason">Reason</label>
          <input id="reason" name="reason" />
        </>
      ),
      verb,
      isHarsh: order === 'abort' || order === 'rollback',
      act: async (form) => {
        const reason = String(form.get('reason') ?? '').trim();
        await post(`/v1/rollouts/{name}/${order}`, { name }, reason ? { reason } : {});
        again();
        return `Rollout ${name} ${done}.`;
      },
    });
  };
  const verbs = verbsOf(rollout);
  if (verbs.length === 0) return null;
  return (
    <div class="actions">
      {verbs.map((order) => (
        <button key={order} type="button" onClick={() => tell(order)}>
          {ORDERS[order].verb}
        </button>
      ))}
    </div>
  );
}

function Waves({ rollout }: { rollout: RolloutView }) {
  const { waves, wave, moved, members, behind, watchedMs, spec } = rollout;
  const isBack = rollout.phase === 'rolledBack';
  const stateOf = (number: number) => {
    if (number < wave || rollout.phase === 'done') return <State tone="good">moved</State>;
    if (number > wave) return <State tone="idle">{isOver(rollout) ? 'never begun' : 'to come'}</State>;
    const { tone, word } = rolloutHealth(rollout);
    return <State tone={tone}>{word}</State>;
  };
  return (
    <Card id="waves" title="Waves" aside={<span class="muted">each soaks for {spec.soak}</span>}>
      <p>
        <Progress done={moved} of={members} label="Subjects that are moved" />{' '}
        {isBack ? 'were moved, and have again what they had' : 'are moved'}
        {behind > 0 && `, ${behind} of them not in force yet`}.
      </p>
      {watchedMs != null && <p>This wave was watched for {span(watchedMs)} without a break.</p>}
      <Table
        label="Every wave"
        rows={waves.map((it, index) => ({ ...it, number: index + 1 }))}
        keyOf={(it) => String(it.number)}
        none="It has no waves."
        columns={[
          { name: 'Wave', show: (it) => it.number },
          { name: 'Leaves moved', isFigure: true, show: (it) => it.share },
          { name: 'Subjects', isFigure: true, show: (it) => it.subjects },
          { name: 'State', show: (it) => stateOf(it.number) },
        ]}
      />
    </Card>
  );
}

/** One sign that the gate looks at. */
interface Sign {
  name: string;
  now: string;
  before: string;
  others: string;
  most: string;
}

function signsOf({ health, spec: { gate } }: RolloutView): Sign[] {
  if (!health) return [];
  const more = (most: string | undefined) => (most ? `${most} more` : '');
  const told = (value: number | null | undefined) => (value == null ? 'unknown' : share(value));
  return [
    {
      name: 'Packets dropped',
      now: told(health.drops),
      before: told(health.dropsBefore),
      others: told(health.dropsOthers),
      most: more(gate?.drops),
    },
    {
      name: 'Probes unanswered',
      now: told(health.loss),
      before: told(health.lossBefore),
      others: told(health.lossOthers),
      most: more(gate?.loss),
    },
    {
      name: 'Send and hear nothing',
      now: `${health.unanswered} of ${health.answeredBefore}`,
      before: 'none',
      others: '',
      most: gate?.unanswered ?? '',
    },
    { name: 'Nodes that reject', now: String(health.rejections), before: '', others: '', most: 'any' },
  ];
}

function Gate({ rollout }: { rollout: RolloutView }) {
  return (
    <Card id="gate" title="What its gate sees">
      <Table
        label="Signs"
        rows={signsOf(rollout)}
        keyOf={(it) => it.name}
        none="Nobody is watched now."
        columns={[
          { name: 'Of those moved', show: (it) => it.name },
          { name: 'Now', isFigure: true, show: (it) => it.now },
          { name: 'Before', isFigure: true, show: (it) => it.before },
          { name: 'Others', isFigure: true, from: 'medium', show: (it) => it.others },
          { name: 'Halts at', isFigure: true, show: (it) => it.most },
        ]}
      />
    </Card>
  );
}

function About({ rollout }: { rollout: RolloutView }) {
  return (
    <Card id="about" title="About it">
      <Facts
        of={[
          ['Started by', rollout.startedBy.split('/web/')[0]],
          ['Started', <Time key="started" ms={rollout.startedMs} />],
          ['Changed', <Time key="changed" ms={rollout.changedMs} />],
          ['In force within', rollout.spec.gate?.settle ?? ''],
        ]}
      />
      {'personas' in rollout.change && (
        <p>
          Documents:{' '}
          {rollout.change.personas.map((step, index) => (
            <span key={step.persona}>
              {index > 0 && ', '}
              <a href={to('personas', step.persona)}>{step.persona}</a>
            </span>
          ))}
        </p>
      )}
    </Card>
  );
}

function Moved({ rollout: { movedSubjects, moved, phase } }: { rollout: RolloutView }) {
  // A rollout that is over holds nobody any more.
  if (phase === 'done' || phase === 'rolledBack') return null;
  return (
    <Card
      id="moved"
      title="Who was moved"
      aside={<span class="muted">{moved > movedSubjects.length ? `some of ${moved}` : moved}</span>}
    >
      {movedSubjects.length === 0 ? (
        <p class="none">Nobody yet.</p>
      ) : (
        <ul class="marks">
          {movedSubjects.map((subject) => (
            <li key={subject}>
              <a href={toSubject(subject)}>{subject}</a>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}
