// Small parts that every view uses: states with a sign and a word, meters, tables, times.

import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { clock, distance, share } from '../format';
import type { Reading } from '../state/read';

/** The time, to the second. */
export const now = signal(Date.now());
setInterval(() => {
  if (document.visibilityState === 'visible') now.value = Date.now();
}, 1_000);

/** How well something is. Each has a sign of its own, so that no colour has to be seen. */
export type Tone = 'good' | 'warn' | 'bad' | 'idle';

const SIGNS: Record<Tone, string> = { good: '●', warn: '▲', bad: '✕', idle: '○' };

/** A state: a sign and a word. */
export function State({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`state ${tone}`}>
      <span aria-hidden="true">{SIGNS[tone]}</span> {children}
    </span>
  );
}

/** How full something is; 1 is full. */
export function Meter({ value, label, word = '' }: { value: number; label: string; word?: string }) {
  const tone = value >= 0.9 ? 'bad' : value >= 0.7 ? 'warn' : 'good';
  const text = share(value);
  return (
    <span class="meter">
      <span
        class={`bar ${tone}`}
        role="meter"
        aria-label={label}
        aria-valuenow={Math.round(Math.min(value, 1) * 100)}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuetext={text}
      >
        <span class="fill" style={{ width: `${Math.min(value, 1) * 100}%` }} />
      </span>
      <span class="figure">
        {text}
        {word && ` ${word}`}
      </span>
    </span>
  );
}

/** How many of all something has come to. */
export function Progress({ done, of, label }: { done: number; of: number; label: string }) {
  return (
    <span class="meter">
      <span
        class="bar good"
        role="progressbar"
        aria-label={label}
        aria-valuenow={done}
        aria-valuemin={0}
        aria-valuemax={of}
      >
        <span class="fill" style={{ width: `${of > 0 ? (done / of) * 100 : 0}%` }} />
      </span>
      <span class="figure">
        {done} of {of}
      </span>
    </span>
  );
}

/** A time, as how far it is; the exact one is there for who points at it. */
export function Time({ ms }: { ms: number }) {
  if (ms === 0) return <>never</>;
  const date = new Date(ms);
  return (
    <time dateTime={date.toISOString()} title={date.toLocaleString('en-GB')}>
      {distance(ms, now.value)}
    </time>
  );
}

/** A time of the day. */
export function Clock({ ms }: { ms: number }) {
  return <time dateTime={new Date(ms).toISOString()}>{clock(ms, now.value)}</time>;
}

/** Names of things, as small marks in a row. */
export function Marks({ of }: { of: string[] }) {
  if (of.length === 0) return <span class="muted">none</span>;
  return (
    <ul class="marks">
      {of.map((it) => (
        <li key={it}>{it}</li>
      ))}
    </ul>
  );
}

/** One column of a table. */
export interface Column<T> {
  name: string;
  show: (row: T) => ComponentChildren;
  /** Figures stand at the right. */
  isFigure?: boolean;
  /** From which width on it is shown, where there is little room. */
  from?: 'medium' | 'wide';
}

/** A table that scrolls by itself where it is too wide. */
export function Table<T>({
  label,
  columns,
  rows,
  keyOf,
  none,
}: {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T) => string;
  none: string;
}) {
  if (rows.length === 0) return <p class="none">{none}</p>;
  const kind = (column: Column<T>) => [column.isFigure ? 'figure' : '', column.from ?? ''].join(' ').trim();
  const [first, ...rest] = columns;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
    <section class="scroll" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" class={kind(column)}>
                {column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>
              {first && (
                <th scope="row" class={kind(first)}>
                  {first.show(row)}
                </th>
              )}
              {rest.map((column) => (
                <td key={column.name} class={kind(column)}>
                  {column.show(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A part of a view, with its heading. */
export function Card({
  title,
  aside,
  children,
  id,
}: {
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
  id: string;
}) {
  return (
    <section class="card" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** Pairs of a name and what it is. */
export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** What is shown of a reading: the view, that it is being read, or what is wrong. */
export function Shown<T>({ of, children }: { of: Reading<T>; children: (value: T) => ComponentChildren }) {
  const trouble = of.trouble !== '' && (
    <p class="trouble" role="alert">
      {of.value === undefined ? of.trouble : `Shown as it was ${distance(of.atMs, now.value)}: ${of.trouble}`}
    </p>
  );
  return (
    <>
      {trouble}
      {of.value !== undefined ? children(of.value) : of.trouble === '' && <p class="none">Reading …</p>}
    </>
  );
}
