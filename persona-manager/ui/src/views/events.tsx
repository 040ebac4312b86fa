// What happens, as it happens.

import { useSignal } from '@preact/signals';
import type { EventView } from '../api/client';
import { Clock } from '../parts/basics';
import { to, toSubject } from '../router';
import { events, isLive } from '../state/events';

/** Events that are shown at a time. */
const SHOWN_MAX = 200;

export function Events() {
  const wanted = useSignal('');
  const kept = useSignal<EventView[] | null>(null);
  const all = kept.value ?? events.value;
  const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
  const isWanted = (event: EventView) => {
    const text = `${event.name} ${event.about} ${event.actor} ${event.message}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const shown = all.filter(isWanted);
  return (
    <>
      <div class="tools">
        <label>
          Filter
          <input
            type="search"
            value={wanted.value}
            onInput={(event) => {
              wanted.value = event.currentTarget.value;
            }}
            placeholder="a word of the name, the subject, the actor"
          />
        </label>
        <button
          type="button"
          aria-pressed={kept.value !== null}
          onClick={() => {
            kept.value = kept.value === null ? events.value : null;
          }}
        >
          {kept.value === null ? 'Hold' : 'Go on'}
        </button>
        <span class="muted">
          {kept.value !== null ? 'held' : isLive.value ? 'live' : 'not connected'}, {shown.length} of{' '}
          {all.length}
        </span>
      </div>
      {shown.length === 0 ? (
        <p class="none">{words.length > 0 ? 'Nothing that fits the filter.' : 'Nothing has happened yet.'}</p>
      ) : (
        <section class="card" aria-label="All events">
          <EventList events={shown.slice(0, SHOWN_MAX)} />
        </section>
      )}
    </>
  );
}

/** Events, the newest first. */
export function EventList({ events: shown }: { events: EventView[] }) {
  return (
    <ol class="events">
      {shown.map((event) => (
        <li key={event.number}>
          <Clock ms={event.timeMs} />
          <span class={`name ${toneOf(event.name)}`}>{event.name}</span>
          <span class="message">
            <Message event={event} /> <span class="muted">by {event.actor.split('/web/')[0]}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}

/** An event's sentence, with the way to what it is about: in it where it is named, else behind it. */
function Message({ event: { message, about } }: { event: EventView }) {
  const view = viewOf(about);
  const at = message.indexOf(about);
  if (at < 0) {
    const behind = view ? <a href={view}>{about}</a> : <span class="muted about">{about}</span>;
    return (
      <>
        {message} {behind}
      </>
    );
  }
  if (!view) return <>{message}</>;
  return (
    <>
      {message.slice(0, at)}
      <a href={view}>{about}</a>
      {message.slice(at + about.length)}
    </>
  );
}

/** The view of what an event is about, if there is one. */
function viewOf(about: string): string | undefined {
  const [kind = '', ...rest] = about.split('/');
  if (kind === 'workload' && rest.length === 2) return toSubject(about);
  const view = { edge: 'edges', node: 'nodes', persona: 'personas', rollout: 'rollouts' }[kind];
  return view && rest.length === 1 ? to(view, ...rest) : undefined;
}

function toneOf(name: string): string {
  if (/\.(down|halted|rejected|refused|revoked|vanished|failed|exhausted)$/.test(name)) return 'bad';
  if (/\.(drain|held|leaving|degraded|unassigned|path-bad)$/.test(name)) return 'warn';
  return '';
}
