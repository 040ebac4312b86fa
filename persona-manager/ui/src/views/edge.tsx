// One edge: how it is and why, what it carries, who hears it, and what an operator may do with it.

import type { PlanView } from '../api/client';
import { type EdgeView, get, getTagged, post, put, remove } from '../api/client';
import { bitRate, count, milliseconds, share } from '../format';
import { ask } from '../parts/ask';
import { Card, Facts, Marks, Meter, Shown, State, Table, Time } from '../parts/basics';
import { to, toSubject } from '../router';
import { edgeHealth } from '../state/health';
import { useRead } from '../state/read';
import { mayOperate } from '../state/session';

/** Subjects of the plan that are named. */
const NAMED_MAX = 200;

export function Edge({ name }: { name: string }) {
  const seen = useRead(`edge ${name}`, async () => {
    const [edge, plan] = await Promise.all([
      getTagged('/v1/edges/{name}', { name }),
      get('/v1/plan').catch(() => undefined),
    ]);
    return { edge: edge.value, tag: edge.tag, plan };
  });
  return (
    <Shown of={seen}>
      {({ edge, tag, plan }) => (
        <>
          <p class="lead">
            <State tone={edgeHealth(edge).tone}>{edgeHealth(edge).word}</State> {edge.reason}
            {edge.maintenance && (
              <>
                {' '}
                In maintenance since <Time ms={edge.maintenance.sinceMs} />
                {edge.maintenance.reason ? `: ${edge.maintenance.reason}` : ''}
              </>
            )}
          </p>
          {mayOperate.value && <Actions edge={edge} tag={tag} again={seen.again} />}
          <div class="columns">
            <Load edge={edge} />
            <About edge={edge} />
          </div>
          <Probes edge={edge} />
          <Planned name={name} plan={plan} />
        </>
      )}
    </Shown>
  );
}

function Actions({ edge, tag, again }: { edge: EdgeView; tag: string; again: () => void }) {
  const { name } = edge;
  const drain = () =>
    ask({
      title: `Drain edge ${name}?`,
      body: (
        <p>
          New flows go to the other edges of group {edge.group}. Old ones stay until they end; nothing is cut.
        </p>
      ),
      verb: 'Drain',
      isHarsh: true,
      act: async () => {
        await post('/v1/edges/{name}/drain', { name });
        again();
        return `Edge ${name} is being drained.`;
      },
    });
  const undrain = () =>
    ask({
      title: `Let edge ${name} take new flows again?`,
      body: <p>It gets its share of group {edge.group} back.</p>,
      verb: 'Undrain',
      act: async () => {
        await post('/v1/edges/{name}/undrain', { name });
        again();
        return `Edge ${name} takes new flows again.`;
      },
    });
  const maintain = () =>
    ask({
      title: `Take edge ${name} into maintenance?`,
      body: (
        <>
          <p>
            New flows go to the other edges of group {edge.group}, and the edge may come and go: nobody is
            told that it is down.
          </p>
          <label for="reason">Reason</label>
          <input id="reason" name="reason" maxLength={200} />
        </>
      ),
      verb: 'Begin',
      isHarsh: true,
      act: async (form) => {
        const reason = String(form.get('reason') ?? '').trim();
        await put('/v1/edges/{name}/maintenance', { name }, tag, reason ? { reason } : {});
        again();
        return `Edge ${name} is in maintenance.`;
      },
    });
  const endMaintenance = () =>
    ask({
      title: `End the maintenance of edge ${name}?`,
      body: <p>It gets its share of group {edge.group} back once it serves.</p>,
      verb: 'End',
      act: async () => {
        await remove('/v1/edges/{name}/maintenance', { name });
        again();
        return `The maintenance of edge ${name} is over.`;
      },
    });
  const weigh = () =>
    ask({
      title: `Weight of edge ${name}`,
      body: (
        <>
          <p>
            Its share of the group's flows, relative to the others. It is refused if another has changed it
            meanwhile.
          </p>
          <label for="weight">Weight, 1 to 1000</label>
          <input
            id="weight"
            name="weight"
            type="number"
            min={1}
            max={1000}
            required
            defaultValue={String(edge.weight)}
          />
        </>
      ),
      verb: 'Set',
      act: async (form) => {
        const weight = Number(form.get('weight'));
        await put('/v1/edges/{name}/weight', { name }, tag, { weight });
        again();
        return `Edge ${name} has weight ${weight}.`;
      },
    });
  return (
    <div class="actions">
      {edge.draining ? (
        <button type="button" onClick={undrain}>
          Undrain
        </button>
      ) : (
        <button type="button" onClick={drain}>
          Drain
        </button>
      )}
      {edge.maintenance ? (
        <button type="button" onClick={endMaintenance}>
          End maintenance
        </button>
      ) : (
        <button type="button" onClick={maintain}>
          Maintenance
        </button>
      )}
      <button type="button" onClick={weigh}>
        Set weight
      </button>
    </div>
  );
}

function Load({ edge }: { edge: EdgeView }) {
  const { capacity, load } = edge;
  const part = (name: string, carried: number, most: number | null | undefined, text: string) => ({
    name,
    text,
    value: most ? carried / most : undefined,
  });
  const parts = [
    part(
      'Rate',
      edge.bitsPerSec,
      capacity?.bitsPerSec,
      bitRate(edge.bitsPerSec) + ofMost(capacity?.bitsPerSec, bitRate),
    ),
    part(
      'Packets',
      load?.packetsPerSec ?? 0,
      capacity?.packetsPerSec,
      count(load?.packetsPerSec ?? 0, '/s') + ofMost(capacity?.packetsPerSec, (it) => count(it, '/s')),
    ),
    part(
      'Leases',
      edge.leaseCount,
      capacity?.leaseCount,
      count(edge.leaseCount) + ofMost(capacity?.leaseCount, count),
    ),
    part(
      'Processor',
      load?.cpuShare ?? 0,
      load?.cpuShare == null ? undefined : 1,
      load?.cpuShare == null ? 'not said' : '',
    ),
  ];
  return (
    <Card id="load" title="What it carries">
      <ul class="loads">
        {parts.map(({ name, value, text }) => (
          <li key={name}>
            <span>{name}</span>
            {value === undefined ? <span /> : <Meter value={value} label={name} />}
            <span class="muted">{text}</span>
          </li>
        ))}
      </ul>
      <p class="muted">
        {count(load?.dropsPerSec ?? 0)} drops a second; weight {edge.weight}.
      </p>
    </Card>
  );
}

function ofMost(most: number | null | undefined, show: (value: number) => string): string {
  return most ? ` of ${show(most)}` : '';
}

function About({ edge }: { edge: EdgeView }) {
  return (
    <Card id="about" title="What it is">
      <Facts
        of={[
          ['Group', edge.group],
          ['Address', edge.address],
          ['Place', [edge.labels.city, edge.labels.country].filter(Boolean).join(', ') || 'not said'],
          ['Capabilities', <Marks of={edge.capabilities} key="capabilities" />],
          ['Answers for', edge.owned.length > 0 ? edge.owned.join(', ') : 'no address'],
          ['Routes lead here for', edge.announced?.join(', ') || 'nothing'],
          ['Flags', <Marks of={edge.flags} key="flags" />],
          ['Applied', edge.applied === edge.desired ? 'what is published' : 'an earlier generation'],
          ['Last report', <Time ms={edge.seenMs} key="seen" />],
          ['Version', edge.version],
        ]}
      />
    </Card>
  );
}

function Probes({ edge }: { edge: EdgeView }) {
  return (
    <Card id="probes" title="Who hears it">
      <Table
        label="Probes"
        rows={edge.probes}
        keyOf={(probe) => probe.from}
        none="Nobody probes it."
        columns={[
          { name: 'From', show: (probe) => <From from={probe.from} /> },
          {
            name: 'Answers',
            show: (probe) => <State tone={probe.alive ? 'good' : 'bad'}>{probe.alive ? 'yes' : 'no'}</State>,
          },
          {
            name: 'Round trip',
            isFigure: true,
            show: (probe) => (probe.rttUs == null ? '' : milliseconds(probe.rttUs)),
          },
          {
            name: 'Jitter',
            isFigure: true,
            from: 'medium',
            show: (probe) => (probe.jitterUs == null ? '' : milliseconds(probe.jitterUs)),
          },
          { name: 'Loss', isFigure: true, show: (probe) => share(probe.loss) },
        ]}
      />
    </Card>
  );
}

function From({ from }: { from: string }) {
  const [role, name = ''] = from.split('/');
  return <a href={to(role === 'edge' ? 'edges' : 'nodes', name)}>{from}</a>;
}

function Planned({ name, plan }: { name: string; plan: PlanView | undefined }) {
  const planned = plan?.subjects.filter((subject) => subject.edge === name) ?? [];
  const edge = plan?.edges.find((it) => it.edge === name);
  return (
    <Card
      id="planned"
      title="Who is planned onto it"
      aside={
        plan && (
          <span class="muted">
            {plan.mode === 'steer' ? 'the plan takes effect' : 'advice'}
            {edge && `; ${share(edge.plannedFullness)} full by the plan`}
          </span>
        )
      }
    >
      <Table
        label="Planned subjects"
        rows={planned.slice(0, NAMED_MAX)}
        keyOf={(subject) => subject.subject}
        none={plan ? 'Nobody.' : 'There is no plan: not every edge states what it can carry.'}
        columns={[
          { name: 'Subject', show: (it) => <a href={toSubject(it.subject)}>{it.subject}</a> },
          { name: 'Persona', show: (it) => <a href={to('personas', it.persona)}>{it.persona}</a> },
          { name: 'Why', from: 'medium', show: (it) => it.reason },
        ]}
      />
      {planned.length > NAMED_MAX && <p class="muted">and {planned.length - NAMED_MAX} more</p>}
    </Card>
  );
}
