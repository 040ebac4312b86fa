// One node: how it is, what runs on it, which edges it hears, and what an operator may do with it.

import { get, list, type NodeView, post, type WorkloadView } from '../api/client';
import { count, milliseconds, share } from '../format';
import { ask } from '../parts/ask';
import { Card, Facts, Marks, Shown, State, Table, Time } from '../parts/basics';
import { to } from '../router';
import { nodeHealth } from '../state/health';
import { useRead } from '../state/read';
import { mayOperate } from '../state/session';
import { WORKLOAD_COLUMNS } from './workloads';

export function Node({ name }: { name: string }) {
  const seen = useRead(`node ${name}`, async () => {
    const [node, workloads] = await Promise.all([get('/v1/nodes/{name}', { name }), list('/v1/workloads')]);
    return { node, workloads: workloads.items.filter((it) => it.node === name) };
  });
  return (
    <Shown of={seen}>
      {({ node, workloads }) => (
        <>
          <p class="lead">
            <State tone={nodeHealth(node).tone}>{nodeHealth(node).word}</State>{' '}
            {node.rejected
              ? node.rejected.reason
              : node.draining
                ? 'takes nobody new; who is there stays'
                : ''}
          </p>
          {mayOperate.value && <Actions node={node} again={seen.again} />}
          <div class="columns">
            <About node={node} />
            <Heard node={node} />
          </div>
          <Runs workloads={workloads} />
        </>
      )}
    </Shown>
  );
}

function Actions({ node: { name, draining }, again }: { node: NodeView; again: () => void }) {
  const set = (verb: 'drain' | 'undrain') =>
    ask({
      title: verb === 'drain' ? `Drain node ${name}?` : `Let node ${name} take subjects again?`,
      body: (
        <p>
          {verb === 'drain'
            ? 'It takes nobody new; who wears something there goes on.'
            : 'New subjects may wear personas there.'}
        </p>
      ),
      verb: verb === 'drain' ? 'Drain' : 'Undrain',
      isHarsh: verb === 'drain',
      act: async () => {
        await post(`/v1/nodes/{name}/${verb}`, { name });
        again();
        return verb === 'drain' ? `Node ${name} is being drained.` : `Node ${name} takes subjects again.`;
      },
    });
  return (
    <div class="actions">
      <button type="button" onClick={() => set(draining ? 'undrain' : 'drain')}>
        {draining ? 'Undrain' : 'Drain'}
      </button>
    </div>
  );
}

function About({ node }: { node: NodeView }) {
  return (
    <Card id="about" title="What it is">
      <Facts
        of={[
          ['Address', node.address],
          ['Place', [node.labels.city, node.labels.country].filter(Boolean).join(', ') || 'not said'],
          ['Wants', <Marks of={node.capabilities} key="wants" />],
          ['Leases', count(node.leaseCount)],
          ['Live flows', count(node.liveSlotCount)],
          ['Applied', node.applied === node.desired ? 'what is published' : 'an earlier generation'],
          ['Last report', <Time ms={node.seenMs} key="seen" />],
          ['Version', node.version],
        ]}
      />
    </Card>
  );
}

function Heard({ node }: { node: NodeView }) {
  return (
    <Card id="heard" title="Edges that it hears">
      <Table
        label="Edges heard"
        rows={node.edges}
        keyOf={(edge) => edge.edge}
        none="It probes no edge."
        columns={[
          { name: 'Edge', show: (edge) => <a href={to('edges', edge.edge)}>{edge.edge}</a> },
          {
            name: 'Answers',
            show: (edge) => <State tone={edge.alive ? 'good' : 'bad'}>{edge.alive ? 'yes' : 'no'}</State>,
          },
          {
            name: 'Round trip',
            isFigure: true,
            show: (edge) => (edge.rttUs == null ? '' : milliseconds(edge.rttUs)),
          },
          { name: 'Loss', isFigure: true, show: (edge) => share(edge.loss) },
        ]}
      />
    </Card>
  );
}

function Runs({ workloads }: { workloads: WorkloadView[] }) {
  return (
    <Card id="runs" title="What runs on it">
      <Table
        label="Workloads"
        columns={WORKLOAD_COLUMNS}
        rows={workloads}
        keyOf={(workload) => workload.subject}
        none="No workloads."
      />
    </Card>
  );
}
