// The fleet at a glance: what is up, where it is, what needs somebody, what happened last.

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import {
  type AlertView,
  type EdgeView,
  get,
  type List,
  list,
  type NodeView,
  type PlanView,
  type RolloutView,
  type Status,
} from '../api/client';
import { many } from '../format';
import { Card, Meter, Shown, State, type Tone } from '../parts/basics';
import { to, toSubject } from '../router';
import { events } from '../state/events';
import { edgeHealth, nodeHealth } from '../state/health';
import { type Place, placesOf, waysOf } from '../state/places';
import { useRead } from '../state/read';
import { changeOf, rolloutHealth } from '../state/rollouts';
import { EventList } from './events';
import { WorldMap } from './map';

/** A plan of more workloads than this is not read only to draw lines. */
const DRAWN_WORKLOADS_MAX = 5_000;

/** Lines in a list of what needs somebody, and nodes that are named at a place. */
const NAMED_MAX = 12;

interface Seen {
  status: Status;
  edges: List<EdgeView>;
  nodes: List<NodeView>;
  plan: PlanView | undefined;
  rollouts: RolloutView[];
  alerts: AlertView[];
}

async function look(): Promise<Seen> {
  const [status, edges, nodes, rollouts, alerts] = await Promise.all([
    get('/v1/status'),
    list('/v1/edges'),
    list('/v1/nodes'),
    list('/v1/rollouts'),
    list('/v1/alerts'),
  ]);
  const isDrawn = status.workloads <= DRAWN_WORKLOADS_MAX;
  // Edges that say nothing of what they can carry are not planned: then there are no lines.
  const plan = isDrawn ? await get('/v1/plan').catch(() => undefined) : undefined;
  return { status, edges, nodes, plan, rollouts: rollouts.items, alerts: alerts.items };
}

export function Fleet() {
  const seen = useRead('fleet', look);
  return <Shown of={seen}>{(value) => <Whole seen={value} />}</Shown>;
}

function Whole({ seen }: { seen: Seen }) {
  const { status, edges, nodes, plan } = seen;
  const chosen = useSignal<string | null>(null);
  const { places, unplacedCount } = placesOf(edges.items, nodes.items);
  const place = places.find((it) => it.name === chosen.value);
  const [edgesUp, edgeCount] = status.edges as [number, number];
  const [nodesUp, nodeCount] = status.nodes as [number, number];
  const unassigned = Object.keys(status.unassigned).length;
  return (
    <>
      <ul class="tiles">
        <Tile
          name="Edges up"
          figure={`${edgesUp} of ${edgeCount}`}
          tone={edgesUp < edgeCount ? 'bad' : 'good'}
          href={to('edges')}
        />
        <Tile
          name="Nodes up"
          figure={`${nodesUp} of ${nodeCount}`}
          tone={nodesUp < nodeCount ? 'bad' : 'good'}
          href={to('nodes')}
        />
        <Tile name="Workloads" figure={status.workloads.toLocaleString('en')} href={to('workloads')} />
        <Tile
          name="Without a persona"
          figure={String(unassigned)}
          tone={unassigned > 0 ? 'warn' : 'good'}
          href={to('workloads')}
        />
      </ul>
      <div class="fleet">
        <Card
          id="map"
          title="Where it is"
          aside={
            unplacedCount > 0 && (
              <span class="muted">
                {many(unplacedCount, 'node or edge', 'nodes and edges')} without a place
              </span>
            )
          }
        >
          {places.length === 0 ? (
            <p class="none">
              Nobody says where it is. Label nodes and edges with <code>country</code>, <code>city</code>,{' '}
              <code>latitude</code> and <code>longitude</code>.
            </p>
          ) : (
            <WorldMap
              places={places}
              ways={waysOf(places, plan)}
              chosen={chosen.value}
              onChoose={(name) => {
                chosen.value = name;
              }}
            />
          )}
          <div aria-live="polite">{place ? <AtPlace place={place} /> : <Places places={places} />}</div>
        </Card>
        <div class="beside">
          <Attention seen={seen} />
          <Card id="last" title="Last events" aside={<a href={to('events')}>All events</a>}>
            {events.value.length === 0 ? (
              <p class="none">Nothing yet.</p>
            ) : (
              <EventList events={events.value.slice(0, 7)} />
            )}
          </Card>
        </div>
      </div>
    </>
  );
}

function Tile({ name, figure, tone, href }: { name: string; figure: string; tone?: Tone; href: string }) {
  return (
    <li>
      <a class={`tile ${tone ?? ''}`} href={href}>
        <span class="name">{name}</span>
        <span class="figure">
          {figure}
          {tone && tone !== 'good' && (
            <span class={`state ${tone}`} aria-hidden="true">
              {tone === 'bad' ? ' ✕' : ' ▲'}
            </span>
          )}
        </span>
      </a>
    </li>
  );
}

/** All places in a line each: the map in words. */
function Places({ places }: { places: Place[] }) {
  const withEdges = places.filter((place) => place.edges.length > 0);
  if (withEdges.length === 0) return null;
  return (
    <ul class="legend">
      {withEdges.map((place) => {
        const down = place.edges.filter((edge) => edgeHealth(edge).tone === 'bad').length;
        return (
          <li key={place.name}>
            <State tone={down > 0 ? 'bad' : 'good'}>{place.name}</State>{' '}
            <span class="muted">
              {many(place.edges.length, 'edge')}
              {down > 0 ? `, ${down} not well` : ''}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

function AtPlace({ place }: { place: Place }) {
  return (
    <div class="at">
      <h3>{place.name}</h3>
      <ul class="rows">
        {place.edges.map((edge) => {
          const health = edgeHealth(edge);
          return (
            <li key={edge.name}>
              <a href={to('edges', edge.name)}>{edge.name}</a>
              <State tone={health.tone}>{health.word}</State>
              {edge.load?.fullness != null && (
                <Meter value={edge.load.fullness} label={`How full ${edge.name} is`} />
              )}
            </li>
          );
        })}
      </ul>
      {place.nodes.length > 0 && (
        <p>
          {many(place.nodes.length, 'node')}:{' '}
          {place.nodes.slice(0, NAMED_MAX).map((node, index) => (
            <>
              {index > 0 && ', '}
              <a href={to('nodes', node.name)}>{node.name}</a>
            </>
          ))}
          {place.nodes.length > NAMED_MAX && ` and ${place.nodes.length - NAMED_MAX} more`}
        </p>
      )}
    </div>
  );
}

/** One thing that needs somebody. */
interface Need {
  tone: Tone;
  what: ComponentChildren;
  why: string;
}

function needs({ status, edges, nodes, rollouts, alerts }: Seen): Need[] {
  const ofEdges = edges.items
    .map((edge) => ({ edge, ...edgeHealth(edge) }))
    .filter((it) => it.tone === 'bad' || it.tone === 'warn');
  const ofNodes = nodes.items
    .map((node) => ({ node, ...nodeHealth(node) }))
    .filter((it) => it.tone === 'bad');
  return [
    ...ofEdges.map(({ edge, tone, word }) => ({
      tone,
      what: <a href={to('edges', edge.name)}>edge {edge.name}</a>,
      why: `${word}: ${edge.rejected?.reason ?? (edge.flags.join(', ') || edge.reason)}`,
    })),
    ...ofNodes.map(({ node, tone, word }) => ({
      tone,
      what: <a href={to('nodes', node.name)}>node {node.name}</a>,
      why: node.rejected ? `${word}: ${node.rejected.reason}` : word,
    })),
    ...rollouts
      .filter((it) => it.phase === 'halted')
      .map((it) => ({
        tone: rolloutHealth(it).tone,
        what: <a href={to('rollouts', it.name)}>rollout {it.name}</a>,
        why: `halted: ${it.reason ?? changeOf(it)}`,
      })),
    ...alerts.map((it) => ({
      tone: 'warn' as const,
      what: <a href={toSubject(it.subject)}>{it.subject}</a>,
      why: `${it.alert}: ${it.reason}`,
    })),
    ...Object.entries(status.unassigned).map(([subject, why]) => ({
      tone: 'warn' as const,
      what: <a href={toSubject(subject)}>{subject}</a>,
      why: `wears nothing: ${why}`,
    })),
  ];
}

function Attention({ seen }: { seen: Seen }) {
  const all = needs(seen);
  return (
    <Card
      id="attention"
      title="Needs somebody"
      aside={<span class="muted">{all.length === 0 ? '' : all.length}</span>}
    >
      {all.length === 0 ? (
        <p class="none">
          <State tone="good">Nothing. Everything is as it should be.</State>
        </p>
      ) : (
        <ul class="needs">
          {all.slice(0, NAMED_MAX).map((need, index) => (
            <li key={`${index}-${need.why}`}>
              <State tone={need.tone}>{need.what}</State>
              <span>{need.why}</span>
            </li>
          ))}
          {all.length > NAMED_MAX && <li class="muted">and {all.length - NAMED_MAX} more</li>}
        </ul>
      )}
    </Card>
  );
}
