// A field that keeps what has all of its words, and the line that says when not all was read.

import { useSignal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import type { List } from '../api/client';

/** A filter of some list: its field, and what it keeps. */
export interface Filter<T> {
  field: ComponentChildren;
  keep: (items: T[]) => T[];
}

export function useFilter<T>(label: string, textOf: (item: T) => string): Filter<T> {
  const wanted = useSignal('');
  const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
  const field = (
    <div class="tools">
      <label>
        {label}
        <input
          type="search"
          value={wanted.value}
          onInput={(event) => {
            wanted.value = event.currentTarget.value;
          }}
        />
      </label>
    </div>
  );
  const keep = (items: T[]) => {
    if (words.length === 0) return items;
    return items.filter((item) => {
      const text = textOf(item).toLowerCase();
      return words.every((word) => text.includes(word));
    });
  };
  return { field, keep };
}

/** Says that there is more than was read. */
export function Cut<T>({ list, shown }: { list: List<T>; shown: number }) {
  if (list.isWhole) return null;
  return (
    <p class="trouble">
      The first {list.items.length.toLocaleString('en')} are here, {shown.toLocaleString('en')} of them shown;
      persona-ctl lists all.
    </p>
  );
}
