// Where places of the world are drawn: the Natural Earth projection (Šavrič et al. 2011), on a sheet 1000 wide.

/** The sheet's size, in its own units. */
export const WIDTH = 1000;
export const HEIGHT = 520;

const SCALE = 180;

/** Where a place is drawn. Degrees in, units of the sheet out. */
export function project(longitude: number, latitude: number): [number, number] {
  const lambda = (longitude * Math.PI) / 180;
  const phi = (latitude * Math.PI) / 180;
  const p2 = phi * phi;
  const p4 = p2 * p2;
  const x = lambda * (0.8707 - 0.131979 * p2 + p4 * (-0.013791 + p4 * (0.003971 * p2 - 0.001529 * p4)));
  const y = phi * (1.007226 + p2 * (0.015085 + p4 * (-0.044475 + 0.028874 * p2 - 0.005916 * p4)));
  return [WIDTH / 2 + SCALE * x, HEIGHT / 2 - SCALE * y];
}

/** South of this nothing is drawn: Antarctica, around the pole, has no place on a flat sheet and no fleet. */
const SOUTH = -60;

/** Polygons of longitude and latitude as the path of an SVG. */
export function outline(polygons: number[][][][]): string {
  const drawn = polygons.filter((rings) => rings.flat().some(([, latitude]) => (latitude ?? 0) > SOUTH));
  const rings = drawn.flat().map(unrolled).flatMap(onBothSides);
  return rings
    .map((ring) => `M${ring.map(([longitude, latitude]) => at(longitude ?? 0, latitude ?? 0)).join('L')}Z`)
    .join('');
}

/** A ring that goes on beyond 180° where it would jump to the other side of the sheet. */
function unrolled(ring: number[][]): number[][] {
  let [turn, last] = [0, ring[0]?.[0] ?? 0];
  return ring.map(([longitude = 0, latitude = 0]) => {
    if (longitude - last > 180) turn -= 360;
    if (longitude - last < -180) turn += 360;
    last = longitude;
    return [longitude + turn, latitude];
  });
}

/** A ring, and once more where it comes in from the other side of the sheet. */
function onBothSides(ring: number[][]): number[][][] {
  const shifted = (by: number) => ring.map(([longitude = 0, latitude = 0]) => [longitude + by, latitude]);
  const longitudes = ring.map(([longitude = 0]) => longitude);
  return [
    ring,
    ...(Math.max(...longitudes) > 180 ? [shifted(-360)] : []),
    ...(Math.min(...longitudes) < -180 ? [shifted(360)] : []),
  ];
}

function at(longitude: number, latitude: number): string {
  return project(longitude, latitude)
    .map((it) => Math.round(it * 10) / 10)
    .join(' ');
}

/** A part of the sheet. */
export interface Frame {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The whole sheet. */
export const WHOLE: Frame = { x: 0, y: 0, width: WIDTH, height: HEIGHT };

/** The least part of the sheet, of its shape, that has these points in it with room around them. */
export function frameAround(points: [number, number][]): Frame {
  if (points.length === 0) return WHOLE;
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const ratio = WIDTH / HEIGHT;
  const width = Math.min(WIDTH, Math.max((right - left) * 1.25, (bottom - top) * 1.35 * ratio, WIDTH / 6));
  const height = width / ratio;
  const within = (middle: number, size: number, most: number) =>
    Math.max(0, Math.min(most - size, middle - size / 2));
  return {
    x: within((left + right) / 2, width, WIDTH),
    y: within((top + bottom) / 2, height, HEIGHT),
    width,
    height,
  };
}

/** Something round on the sheet. */
export interface Disc {
  x: number;
  y: number;
  radius: number;
}

/** How often discs that lie over each other are moved apart. */
const ROUNDS = 40;

/** The same discs beside each other, each as close to its place as that allows. */
export function spread(discs: Disc[]): Disc[] {
  const moved = discs.map((disc) => ({ ...disc }));
  for (let round = 0; round < ROUNDS; round += 1) {
    let isApart = true;
    for (const [index, one] of moved.entries()) {
      for (const other of moved.slice(index + 1)) {
        const [dx, dy] = [other.x - one.x, other.y - one.y];
        const distance = Math.hypot(dx, dy);
        const missing = one.radius + other.radius - distance;
        if (missing <= 1e-9) continue;
        isApart = false;
        // Two at one place go apart sideways.
        const [ux, uy] = distance > 0 ? [dx / distance, dy / distance] : [1, 0];
        one.x -= (ux * missing) / 2;
        one.y -= (uy * missing) / 2;
        other.x += (ux * missing) / 2;
        other.y += (uy * missing) / 2;
      }
    }
    if (isApart) break;
  }
  return moved;
}
