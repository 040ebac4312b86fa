// Which view is shown: the path under /ui/, in the browser's history like any page's.

import { signal } from '@preact/signals';

const BASE = '/ui';

/** The path of the view, from `/` on. */
export const path = signal(here());

function here(): string {
  if (typeof location === 'undefined') return '/';
  const rest = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : '/';
  return rest === '' ? '/' : rest;
}

/** The address of a view; names may have any character. */
export function to(...parts: string[]): string {
  return [BASE, ...parts.map(encodeURIComponent)].join('/') + (parts.length === 0 ? '/' : '');
}

/** A subject's view: its id has slashes of its own. */
export function toSubject(subject: string): string {
  return to('subjects', ...subject.split('/'));
}

/** The parts of the path, decoded. */
export function parts(of: string): string[] {
  return of.split('/').filter(Boolean).map(decodeURIComponent);
}

/** Goes to a view. */
export function go(address: string): void {
  history.pushState(null, '', address);
  path.value = here();
}

/** Goes there in place of where one is. */
export function goInstead(address: string): void {
  history.replaceState(null, '', address);
  path.value = here();
}

/** Follows links within the page without loading it anew. */
export function followLinks(): void {
  addEventListener('popstate', () => {
    path.value = here();
  });
  document.addEventListener('click', (event) => {
    const link = (event.target as Element | null)?.closest?.('a');
    const address = link?.getAttribute('href');
    const isPlain =
      event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!address?.startsWith(`${BASE}/`) || !isPlain || event.defaultPrevented) return;
    event.preventDefault();
    go(address);
  });
}
