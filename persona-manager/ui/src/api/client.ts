// Asking the manager: the same API that everybody has, with the session's cookie, and with what shows in a change that it
// comes from this page.

import type { components, paths } from '#schema';

type Schemas = components['schemas'];
export type EdgeView = Schemas['EdgeView'];
export type NodeView = Schemas['NodeView'];
export type PersonaView = Schemas['PersonaView'];
export type PoolView = Schemas['PoolView'];
export type WorkloadView = Schemas['WorkloadView'];
export type AssignmentView = Schemas['AssignmentView'];
export type Explanation = Schemas['Explanation'];
export type EventView = Schemas['EventView'];
export type Status = Schemas['Status'];
export type PlanView = Schemas['PlanView'];
export type WhoAmI = Schemas['WhoAmI'];
export type WebSessionView = Schemas['WebSessionView'];
export type AlertView = Schemas['AlertView'];
export type RolloutView = Schemas['RolloutView'];
export type LeaseView = Schemas['LeaseView'];
export type Problem = Schemas['Problem'];
export type Switch = Schemas['Switch'];

/** Paths that can be asked, and what they answer. */
type Asked = {
  [P in keyof paths as paths[P] extends { get: unknown } ? P : never]: paths[P] extends {
    get: { responses: { 200: { content: { 'application/json': infer T } } } };
  }
    ? T
    : never;
};

/** Paths that answer in pages, and what is on them. */
type Listed = {
  [P in keyof Asked as Asked[P] extends { items: unknown[] } ? P : never]: Asked[P] extends {
    items: (infer T)[];
  }
    ? T
    : never;
};

/** A refusal by the manager, in its words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** What the session's changes show; `session.ts` sets it. */
let csrf: string | undefined;

export function setCsrf(value: string | undefined): void {
  csrf = value;
}

/** What is called when the manager no longer knows the session. */
let onLoggedOut = () => {};

export function whenLoggedOut(call: () => void): void {
  onLoggedOut = call;
}

/** Entries of a page, and pages of a list, that are asked for at most. */
const PAGE_LENGTH = 1000;
const PAGES_MAX = 5;

/** Fills names into a path; a subject's slashes stay. */
function filled(path: string, names: Record<string, string>): string {
  const part = (name: string) => (names[name] ?? '').split('/').map(encodeURIComponent).join('/');
  return path.replace(/\{(\w+)\}/g, (_, name: string) => part(name));
}

async function send(method: string, address: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (csrf !== undefined && method !== 'GET') headers.set('persona-csrf', csrf);
  if (init.body) headers.set('content-type', 'application/json');
  const answer = await fetch(address, { ...init, method, headers, credentials: 'same-origin' }).catch(
    (error) => {
      if (error instanceof DOMException && error.name === 'AbortError') throw error;
      throw new Refused(0, 'the manager does not answer');
    },
  );
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => null)) as Problem | null;
  if (answer.status === 401 && address !== SESSIONS) onLoggedOut();
  throw new Refused(answer.status, problem?.detail ?? `the manager answered ${answer.status}`);
}

/** What is at a path. */
export async function get<P extends keyof Asked & string>(
  path: P,
  names: Record<string, string> = {},
): Promise<Asked[P]> {
  return (await send('GET', filled(path, names))).json() as Promise<Asked[P]>;
}

/** What is at a path, with its version for a later change. */
export async function getTagged<P extends keyof Asked & string>(
  path: P,
  names: Record<string, string>,
): Promise<{ value: Asked[P]; tag: string }> {
  const answer = await send('GET', filled(path, names));
  return { value: (await answer.json()) as Asked[P], tag: answer.headers.get('etag') ?? '*' };
}

/** What is on a list; `isWhole` says whether that is all. */
export interface List<T> {
  items: T[];
  isWhole: boolean;
}

/** Everything on a list, up to 5,000 entries. */
export async function list<P extends keyof Listed & string>(
  path: P,
  names: Record<string, string> = {},
  more: Record<string, string> = {},
): Promise<List<Listed[P]>> {
  const items: Listed[P][] = [];
  let token: string | null | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query = new URLSearchParams({
      ...more,
      limit: String(PAGE_LENGTH),
      ...(token ? { pageToken: token } : {}),
    });
    const answer = await send('GET', `${filled(path, names)}?${query}`);
    const read = (await answer.json()) as { items: Listed[P][]; nextPageToken?: string | null };
    items.push(...read.items);
    token = read.nextPageToken;
    if (!token) return { items, isWhole: true };
  }
  return { items, isWhole: false };
}

/** Has the manager do something. */
export async function post(path: string, names: Record<string, string>, body?: unknown): Promise<void> {
  const headers = { 'idempotency-key': crypto.randomUUID() };
  await send('POST', filled(path, names), {
    headers,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** Puts something in place of what was read under `tag`; refused (412) if another has changed it since. */
export async function put(
  path: string,
  names: Record<string, string>,
  tag: string,
  body: unknown,
): Promise<void> {
  await send('PUT', filled(path, names), { headers: { 'if-match': tag }, body: JSON.stringify(body) });
}

/** Takes something away. */
export async function remove(path: string, names: Record<string, string>): Promise<void> {
  await send('DELETE', filled(path, names), { headers: { 'if-match': '*' } });
}

const SESSIONS = '/v1/web-sessions';

/** Logs this browser in; the cookie is set by the answer. */
export async function logIn(presented: { link: string } | { token: string }): Promise<WhoAmI> {
  return (await send('POST', SESSIONS, { body: JSON.stringify(presented) })).json() as Promise<WhoAmI>;
}

/** Events from `since` on (without it: from now on), as they happen, until `signal`. */
export async function followEvents(
  since: number | undefined,
  onEvent: (event: EventView) => void,
  signal: AbortSignal,
): Promise<void> {
  const query = new URLSearchParams({
    follow: 'true',
    ...(since === undefined ? {} : { since: String(since) }),
  });
  const answer = await send('GET', `/v1/events?${query}`, { signal });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  while (reader) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines.filter(Boolean)) onEvent(JSON.parse(line) as EventView);
  }
}
