// The frame of every view: where one can go, who one is, whether events come; and the view itself.

import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { Dialog, Done, done } from './parts/ask';
import { now } from './parts/basics';
import { parts, path, to } from './router';
import { events, isLive } from './state/events';
import { leave, mayAdminister, me } from './state/session';
import { Alerts } from './views/alerts';
import { Edge } from './views/edge';
import { Edges } from './views/edges';
import { Events } from './views/events';
import { Fleet } from './views/fleet';
import { Login } from './views/login';
import { Node } from './views/node';
import { Nodes } from './views/nodes';
import { Persona } from './views/persona';
import { Personas } from './views/personas';
import { Pools } from './views/pools';
import { Rollout } from './views/rollout';
import { Rollouts } from './views/rollouts';
import { Sessions } from './views/sessions';
import { Subject } from './views/subject';
import { Workloads } from './views/workloads';

/** A view: its title, and what is on it. */
interface View {
  title: string;
  body: ComponentChildren;
}

const NAVIGATION: [name: string, part: string][] = [
  ['Fleet', ''],
  ['Edges', 'edges'],
  ['Nodes', 'nodes'],
  ['Workloads', 'workloads'],
  ['Personas', 'personas'],
  ['Rollouts', 'rollouts'],
  ['Alerts', 'alerts'],
  ['Egress pools', 'pools'],
  ['Events', 'events'],
];

function viewAt(at: string): View {
  const [first = '', ...rest] = parts(at);
  const name = rest.join('/');
  switch (first) {
    case '':
      return { title: 'Fleet', body: <Fleet /> };
    case 'edges':
      return name
        ? { title: `Edge ${name}`, body: <Edge name={name} key={name} /> }
        : { title: 'Edges', body: <Edges /> };
    case 'nodes':
      return name
        ? { title: `Node ${name}`, body: <Node name={name} key={name} /> }
        : { title: 'Nodes', body: <Nodes /> };
    case 'workloads':
      return { title: 'Workloads', body: <Workloads /> };
    case 'subjects':
      return { title: name, body: <Subject subject={name} key={name} /> };
    case 'personas':
      return name
        ? { title: `Persona ${name}`, body: <Persona name={name} key={name} /> }
        : { title: 'Personas', body: <Personas /> };
    case 'pools':
      return { title: 'Egress pools', body: <Pools /> };
    case 'rollouts':
      return name
        ? { title: `Rollout ${name}`, body: <Rollout name={name} key={name} /> }
        : { title: 'Rollouts', body: <Rollouts /> };
    case 'alerts':
      return { title: 'Alerts', body: <Alerts /> };
    case 'events':
      return { title: 'Events', body: <Events /> };
    case 'sessions':
      return { title: 'Sessions', body: <Sessions /> };
    case 'login':
      return { title: 'You are in', body: <p>You have logged in already.</p> };
    default:
      return {
        title: 'Nothing here',
        body: (
          <p>
            There is no such view. <a href={to()}>To the fleet</a>
          </p>
        ),
      };
  }
}

export function App() {
  if (me.value === undefined) return <p class="none">One moment …</p>;
  if (me.value === null) return <Login />;
  return <Frame />;
}

function Frame() {
  const heading = useRef<HTMLHeadingElement>(null);
  const at = path.value;
  const { title, body } = viewAt(at);
  const isFirst = useRef(true);
  // With the view itself and not after it is painted: nobody reads a view whose focus is still elsewhere.
  useLayoutEffect(() => {
    document.title = `${title} · Persona`;
    done.value = '';
    // A new view begins at its heading, for eyes and for screen readers; the first one at the top of the page.
    if (!isFirst.current) heading.current?.focus();
    isFirst.current = false;
  }, [at]);
  return (
    <>
      <a class="skip" href="#view">
        To the content
      </a>
      <Side current={parts(at)[0] ?? ''} />
      <main id="view">
        <h1 ref={heading} tabIndex={-1}>
          {title}
        </h1>
        <Done />
        {body}
      </main>
      <Dialog />
      <Announcer />
    </>
  );
}

function Side({ current }: { current: string }) {
  const belongs: Record<string, string> = { subjects: 'workloads' };
  const own = belongs[current] ?? current;
  return (
    <header class="side">
      <a class="brand" href={to()}>
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <circle cx="12" cy="16" r="7.5" />
          <path d="M19.2 9.3a7.5 7.5 0 1 1 0 13.4" />
        </svg>
        Persona
      </a>
      <nav aria-label="Views">
        <ul>
          {[...NAVIGATION, ...(mayAdminister.value ? [['Sessions', 'sessions'] as const] : [])].map(
            ([name, part]) => (
              <li key={part}>
                <a href={part === '' ? to() : to(part)} aria-current={own === part ? 'page' : undefined}>
                  {name}
                </a>
              </li>
            ),
          )}
        </ul>
      </nav>
      <div class="who">
        <p>
          <span class={`live ${isLive.value ? 'is-live' : ''}`}>
            {isLive.value ? 'Live' : 'Not connected'}
          </span>
        </p>
        <p class="actor">
          {me.value?.actor.split('/web/')[0]} <span class="role">{me.value?.role}</span>
        </p>
        <button type="button" onClick={() => void leave()}>
          Log out
        </button>
      </div>
    </header>
  );
}

/** How long after one announcement the next may come, milliseconds. */
const QUIET_MS = 6_000;

/** Tells screen readers what happens, and not more than they can say. */
function Announcer() {
  const said = useRef({ number: 0, atMs: 0, text: '' });
  const newest = events.value[0];
  const last = said.current;
  if (newest && last.number === 0) last.number = newest.number;
  if (newest && newest.number > last.number && now.value - last.atMs > QUIET_MS) {
    const more = newest.number - last.number - 1;
    said.current = {
      number: newest.number,
      atMs: now.value,
      text: more > 0 ? `${newest.message}; and ${more} more events` : newest.message,
    };
  }
  return (
    <p class="unseen" role="status">
      {said.current.text}
    </p>
  );
}
