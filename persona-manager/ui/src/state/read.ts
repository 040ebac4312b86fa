// What a view reads: read at once, again when something happened, and now and then; the last good answer stays.

import { type Signal, useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { tick } from './events';

/** Figures (loads, probes) change without an event: how often they are read, milliseconds, and if the answer is long. */
const EVERY_MS = 3_000;
const EVERY_MS_LONG = 15_000;

/** An answer that took longer than this is a long one, milliseconds. */
const LONG_MS = 300;

/** What was read last, and what is wrong if reading fails now. */
export interface Reading<T> {
  value: T | undefined;
  trouble: string;
  /** When the value was read. */
  atMs: number;
  again: () => void;
}

/** Reads something as long as the view is shown; `key` says what, and another one starts anew. */
export function useRead<T>(key: string, read: () => Promise<T>): Reading<T> {
  const value = useSignal<T | undefined>(undefined);
  const trouble = useSignal('');
  const atMs = useSignal(0);
  const asked = useSignal(0);
  const newest = useRef(read);
  newest.current = read;

  useEffect(() => {
    let isShown = true;
    let isReading = false;
    let isStale = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    value.value = undefined;
    const once = async () => {
      if (isReading) {
        isStale = true;
        return;
      }
      isReading = true;
      clearTimeout(timer);
      const start = performance.now();
      try {
        const got = await newest.current();
        if (!isShown) return;
        value.value = got;
        atMs.value = Date.now();
        trouble.value = '';
      } catch (error) {
        if (isShown) trouble.value = (error as Error).message;
      } finally {
        isReading = false;
      }
      const isLong = performance.now() - start > LONG_MS;
      if (isShown) timer = setTimeout(whenSeen, isStale ? 0 : isLong ? EVERY_MS_LONG : EVERY_MS);
      isStale = false;
    };
    const whenSeen = () => {
      if (document.visibilityState === 'visible') void once();
    };
    document.addEventListener('visibilitychange', whenSeen);
    const stops = [onChange(tick, () => void once()), onChange(asked, () => void once())];
    void once();
    return () => {
      isShown = false;
      clearTimeout(timer);
      for (const stop of stops) stop();
      document.removeEventListener('visibilitychange', whenSeen);
    };
  }, [key]);

  return {
    value: value.value,
    trouble: trouble.value,
    atMs: atMs.value,
    again: () => {
      asked.value += 1;
    },
  };
}

/** Calls `call` when a signal changes; subscribing alone would call it at once. */
function onChange(of: Signal<number>, call: () => void): () => void {
  let known = of.peek();
  return of.subscribe((value) => {
    if (value === known) return;
    known = value;
    call();
  });
}
