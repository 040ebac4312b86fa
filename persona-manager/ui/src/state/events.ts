// Events, live: the last few hundred, and a tick that has views read again what may have changed.

import { effect, signal } from '@preact/signals';
import { type EventView, followEvents, get, list, Refused } from '../api/client';
import { me } from './session';

/** Events that are kept on the page. */
const KEPT_MAX = 500;

/** Events from before that are read at the start. */
const BEFORE_COUNT = 200;

/** Waits between attempts to follow, milliseconds: doubled up to the last. */
const RETRY_MS = 500;
const RETRY_MS_MAX = 15_000;

/** Many events in a row make one tick, milliseconds. */
const TICK_MS = 400;

/** The newest first. */
export const events = signal<EventView[]>([]);

/** Whether they come as they happen. */
export const isLive = signal(false);

/** Counts up when something happened. */
export const tick = signal(0);

let isTickDue = false;

function take(news: EventView[]): void {
  events.value = [...news.toReversed(), ...events.value].slice(0, KEPT_MAX);
  if (isTickDue) return;
  isTickDue = true;
  setTimeout(() => {
    isTickDue = false;
    tick.value += 1;
  }, TICK_MS);
}

async function readBefore(): Promise<void> {
  const since = Math.max(0, ((await get('/v1/status')).eventLast ?? 0) - BEFORE_COUNT);
  const { items } = await list('/v1/events', {}, { since: String(since) });
  events.value = items.toReversed().slice(0, KEPT_MAX);
}

/** Follows events as long as somebody is logged in; what was missed in between is made up for. */
async function follow(signal: AbortSignal): Promise<void> {
  let wait = RETRY_MS;
  while (!signal.aborted) {
    try {
      if (events.value.length === 0) await readBefore();
      isLive.value = true;
      const since = events.value[0]?.number;
      const came = (event: EventView) => {
        wait = RETRY_MS;
        take([event]);
      };
      await followEvents(since, came, signal);
    } catch (error) {
      // The manager is away, or the session has ended: the banner says so, and this tries again. What was missed for so long
      // that it is kept no longer is not made up for: what is newer is read.
      if (error instanceof Refused && error.status === 410) events.value = [];
    }
    isLive.value = false;
    await new Promise((resume) => setTimeout(resume, wait));
    wait = Math.min(wait * 2, RETRY_MS_MAX);
  }
}

/** Begins to follow with each login, and ends with it. */
export function followWhileLoggedIn(): void {
  let running: AbortController | undefined;
  let actor: string | undefined;
  effect(() => {
    const who = me.value?.actor;
    if (who === actor) return;
    actor = who;
    running?.abort();
    running = undefined;
    events.value = [];
    if (who === undefined) return;
    running = new AbortController();
    void follow(running.signal);
  });
}
