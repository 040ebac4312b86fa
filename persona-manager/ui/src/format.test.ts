import { describe, expect, it } from 'vitest';
import { bitRate, count, distance, many, milliseconds, share, span } from './format';

describe('figures', () => {
  it('are short and have their unit', () => {
    expect([0, 999, 1_000, 999_600, 1_234_567, 40e9, 2.5e15].map(bitRate)).toEqual([
      '0 bit/s',
      '999 bit/s',
      '1.00 kbit/s',
      '1.00 Mbit/s',
      '1.23 Mbit/s',
      '40.0 Gbit/s',
      '2500 Tbit/s',
    ]);
    expect([count(12), count(12_345, '/s')]).toEqual(['12', '12.3 k/s']);
    expect([0, 0.0004, 0.031, 0.5, 1.2].map(share)).toEqual(['0 %', '< 0.1 %', '3.1 %', '50 %', '120 %']);
    expect([31, 38_120, 231_000].map(milliseconds)).toEqual(['0.03 ms', '38.1 ms', '231 ms']);
    expect([1, 2, 1_200].map((it) => many(it, 'edge'))).toEqual(['1 edge', '2 edges', '1,200 edges']);
  });

  it('of time say how far it is', () => {
    expect([0, 1_000, 61_000, 7_200_000, 200_000_000].map(span)).toEqual([
      'now',
      '1 s',
      '1 min',
      '2 h',
      '2 d',
    ]);
    expect([distance(1_000, 6_000), distance(66_000, 6_000), distance(5, 6)]).toEqual([
      '5 s ago',
      'in 1 min',
      'now',
    ]);
  });
});
