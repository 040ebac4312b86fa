// The world with the fleet on it. What it shows stands beside it in words too, so that nobody has to see it.

import { LAND } from 'virtual:world';
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { many, share } from '../format';
import { type Frame, frameAround, HEIGHT, project, spread, WHOLE, WIDTH } from '../map/projection';
import { edgeHealth, nodeHealth, worst } from '../state/health';
import type { Place, Way } from '../state/places';

/** How full the fullest edge of a place is. */
function fullestOf(place: Place): number {
  return Math.max(0, ...place.edges.map((edge) => edge.load?.fullness ?? 0));
}

/** A place in a sentence. */
export function described(place: Place): string {
  const down = place.edges.filter((edge) => edge.state === 'down').length;
  const edges = [
    place.edges.length > 0 && many(place.edges.length, 'edge'),
    down > 0 && `${down} down`,
    place.edges.length > 0 && `the fullest ${share(fullestOf(place))} full`,
    place.nodes.length > 0 && many(place.nodes.length, 'node'),
  ];
  return `${place.name}: ${edges.filter(Boolean).join(', ')}`;
}

export function WorldMap({
  places,
  ways,
  chosen,
  onChoose,
}: {
  places: Place[];
  ways: Way[];
  chosen: string | null;
  onChoose: (name: string | null) => void;
}) {
  const isWhole = useSignal(false);
  const box = useRef<HTMLDivElement>(null);
  const pixels = useSignal(960);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      if (entry) pixels.value = Math.max(200, entry.contentRect.width);
    });
    if (box.current) observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const points = places.map((place) => project(place.longitude, place.latitude));
  const frame: Frame = isWhole.value ? WHOLE : frameAround(points);
  // Signs keep their size on the screen, whatever part of the world is shown.
  const unit = frame.width / pixels.value;
  const discs = spread(
    places.map((place, index) => ({
      x: points[index]?.[0] ?? 0,
      y: points[index]?.[1] ?? 0,
      radius: unit * reachOf(place),
    })),
  );
  const spots = new Map(places.map((place, index) => [place.name, discs[index] ?? { x: 0, y: 0 }]));
  return (
    <div class="map" ref={box}>
      <svg
        viewBox={`${frame.x} ${frame.y} ${frame.width} ${frame.height}`}
        style={{ aspectRatio: `${WIDTH} / ${HEIGHT}` }}
        role="group"
        aria-label="Map of the fleet"
      >
        <path class="land" d={LAND} stroke-width={unit} />
        <g class="ways">
          {ways.map((way) => (
            <path
              key={`${way.from.name} ${way.to.name}`}
              class={chosen === null || chosen === way.from.name || chosen === way.to.name ? '' : 'dim'}
              d={arc(spots.get(way.from.name), spots.get(way.to.name))}
              stroke-width={unit * (1 + Math.log2(1 + way.subjectCount) * 0.7)}
            />
          ))}
        </g>
        {places.map((place, index) => (
          <Sign
            key={place.name}
            place={place}
            at={discs[index] ?? { x: 0, y: 0 }}
            unit={unit}
            isChosen={chosen === place.name}
            onChoose={() => onChoose(chosen === place.name ? null : place.name)}
          />
        ))}
      </svg>
      <div class="key">
        <span class="muted">
          A disc: the edges of a place; its ring: how full the fullest is. A square: nodes only.
          {ways.length > 0 && ' Lines lead from nodes to their edges elsewhere.'}
        </span>
        <button
          type="button"
          aria-pressed={isWhole.value}
          onClick={() => {
            isWhole.value = !isWhole.value;
          }}
        >
          Whole world
        </button>
      </div>
    </div>
  );
}

/** How large a place's disc is, and how far its ring reaches, pixels. */
function radiusOf(place: Place): number {
  return place.edges.length > 0 ? 9 + Math.min(9, Math.sqrt(place.edges.length) * 2.5) : 5;
}

function reachOf(place: Place): number {
  return radiusOf(place) + (place.edges.length > 0 ? 5.5 : 1.5);
}

/** A place: a disc as large as it has edges, with a ring that says how full the fullest is; a small square without edges. */
function Sign({
  place,
  at: { x, y },
  unit,
  isChosen,
  onChoose,
}: {
  place: Place;
  at: { x: number; y: number };
  unit: number;
  isChosen: boolean;
  onChoose: () => void;
}) {
  const tone = worst(place.edges.length > 0 ? place.edges.map(edgeHealth) : place.nodes.map(nodeHealth));
  const radius = unit * radiusOf(place);
  const ring = radius + unit * 3.5;
  const length = 2 * Math.PI * ring;
  const full = Math.min(1, fullestOf(place));
  const choose = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    onChoose();
  };
  return (
    <g
      class={`place ${tone} ${isChosen ? 'chosen' : ''}`}
      role="button"
      tabindex={0}
      aria-pressed={isChosen}
      aria-label={described(place)}
      onClick={onChoose}
      onKeyDown={choose}
    >
      <title>{described(place)}</title>
      <circle class="reach" cx={x} cy={y} r={Math.max(ring, unit * 14)} />
      {place.edges.length > 0 ? (
        <>
          <circle class="disc" cx={x} cy={y} r={radius} stroke-width={unit * 1.5} />
          <circle class="track" cx={x} cy={y} r={ring} stroke-width={unit * 3} />
          <circle
            class={`full ${full >= 0.9 ? 'bad' : full >= 0.7 ? 'warn' : 'good'}`}
            cx={x}
            cy={y}
            r={ring}
            stroke-width={unit * 3}
            stroke-dasharray={`${length * full} ${length}`}
            transform={`rotate(-90 ${x} ${y})`}
          />
          <text x={x} y={y} font-size={unit * 12}>
            {tone === 'bad' ? '✕' : tone === 'warn' ? '▲' : place.edges.length}
          </text>
        </>
      ) : (
        <rect
          class="disc"
          x={x - radius}
          y={y - radius}
          width={radius * 2}
          height={radius * 2}
          rx={unit * 2}
          stroke-width={unit * 1.5}
        />
      )}
    </g>
  );
}

/** A bent line from one point to another, so that ways there and back are two. */
function arc(from: { x: number; y: number } | undefined, to: { x: number; y: number } | undefined): string {
  if (!from || !to) return '';
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const bend = 0.18;
  const middle = `${(from.x + to.x) / 2 + dy * bend} ${(from.y + to.y) / 2 - dx * bend}`;
  return `M${from.x} ${from.y}Q${middle} ${to.x} ${to.y}`;
}
