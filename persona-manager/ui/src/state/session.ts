// Who is at the page, and what they may do. The manager checks it again with everything they do.

import { computed, signal } from '@preact/signals';
import { get, logIn, Refused, remove, setCsrf, type WhoAmI, whenLoggedOut } from '../api/client';
import { go, goInstead, path, to } from '../router';

/** Who. Null: nobody; undefined: not known yet. */
export const me = signal<WhoAmI | null | undefined>(undefined);

/** Why somebody has to log in again, or could not. */
export const loginTrouble = signal('');

/** Whether they may switch, drain and weigh. */
export const mayOperate = computed(() => ['operator', 'admin'].includes(me.value?.role ?? ''));

/** Whether they may tell rollouts what to do. */
export const mayRollOut = computed(() => ['author', 'operator', 'admin'].includes(me.value?.role ?? ''));

/** Whether they may see and end others' sessions. */
export const mayAdminister = computed(() => me.value?.role === 'admin');

/** Where they were going when they had to log in. */
let wanted: string | undefined;

function know(who: WhoAmI | null): void {
  setCsrf(who?.csrf ?? undefined);
  me.value = who;
}

/** Finds out who is here, at the start: by the link that was opened, or by the cookie of before. */
export async function arrive(): Promise<void> {
  whenLoggedOut(() => {
    if (me.value) loginTrouble.value = 'Your session has ended.';
    know(null);
  });
  const link = path.value === '/login' ? location.hash.slice(1) : '';
  if (link !== '') {
    // Neither the history nor a screenshot shall have the secret.
    goInstead(to('login'));
    await enter({ link });
    return;
  }
  const who = await get('/v1/whoami').catch((error: Error) => {
    if (!(error instanceof Refused && error.status === 401)) loginTrouble.value = error.message;
    return null;
  });
  if (who === null && path.value !== '/login') wanted = location.pathname;
  know(who);
}

/** Logs in. Returns whether that went well. */
export async function enter(presented: { link: string } | { token: string }): Promise<boolean> {
  try {
    know(await logIn(presented));
    loginTrouble.value = '';
    if (path.value === '/login') go(wanted ?? to());
    return true;
  } catch (error) {
    loginTrouble.value = (error as Error).message;
    know(null);
    return false;
  }
}

/** Logs out. */
export async function leave(): Promise<void> {
  // Whoever is out already wants nothing else.
  await remove('/v1/web-sessions/current', {}).catch(() => undefined);
  loginTrouble.value = '';
  know(null);
  go(to('login'));
}
