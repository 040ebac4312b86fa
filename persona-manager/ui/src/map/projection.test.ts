import { describe, expect, it } from 'vitest';
import { frameAround, HEIGHT, outline, project, spread, WHOLE, WIDTH } from './projection';

describe('the map', () => {
  it('has the middle of the world in its middle and north above', () => {
    expect(project(0, 0)).toEqual([WIDTH / 2, HEIGHT / 2]);
    expect(project(0, 50)[1]).toBeLessThan(HEIGHT / 2);
    for (const [longitude, latitude] of [
      [-180, 0],
      [180, 0],
      [0, 90],
      [0, -90],
      [180, 83],
    ] as const) {
      const [x, y] = project(longitude, latitude);
      expect(x >= 0 && x <= WIDTH && y >= 0 && y <= HEIGHT, `${longitude} ${latitude}: ${x} ${y}`).toBe(true);
    }
  });

  it('draws rings as closed paths', () => {
    expect(
      outline([
        [
          [
            [0, 0],
            [0, 0],
          ],
        ],
      ]),
    ).toBe('M500 260L500 260Z');
  });

  it('cuts nothing through at the date line, and leaves Antarctica out', () => {
    const chukotka = [
      [170, 65],
      [-170, 65],
      [-170, 70],
      [170, 65],
    ];
    const path = outline([
      [chukotka],
      [
        [
          [0, -70],
          [90, -80],
          [-90, -80],
        ],
      ],
    ]);
    const rings = path
      .split('Z')
      .filter(Boolean)
      .map((ring) =>
        ring
          .slice(1)
          .split('L')
          .map((it) => Number(it.split(' ')[0])),
      );
    expect(rings.length).toBe(2);
    for (const xs of rings) expect(Math.max(...xs) - Math.min(...xs)).toBeLessThan(WIDTH / 8);
  });

  it('puts discs beside each other and leaves alone those that are', () => {
    const far = { x: 100, y: 0, radius: 2 };
    const [one, other, third] = spread([{ x: 0, y: 0, radius: 2 }, { x: 0, y: 0, radius: 3 }, far]);
    expect(Math.hypot((one?.x ?? 0) - (other?.x ?? 0), (one?.y ?? 0) - (other?.y ?? 0))).toBeCloseTo(5);
    expect(third).toEqual(far);
  });

  it('shows the part where something is, and never beyond its edges', () => {
    expect(frameAround([])).toEqual(WHOLE);
    const europe = frameAround([project(8, 50), project(2, 48), project(-0.1, 51)]);
    expect(europe.width).toBeCloseTo(WIDTH / 6);
    const all = frameAround([project(-170, -60), project(175, 75)]);
    expect(all).toEqual(WHOLE);
    const corner = frameAround([project(179, 0)]);
    expect(corner.x + corner.width).toBeLessThanOrEqual(WIDTH + 1e-9);
  });
});
