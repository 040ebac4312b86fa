// Where the fleet is: edges and nodes by the place that their labels name, and what is between places.

import type { EdgeView, NodeView, PlanView } from '../api/client';

/** A place with something in it. */
export interface Place {
  /** Its name, or its position where it has none. */
  name: string;
  longitude: number;
  latitude: number;
  edges: EdgeView[];
  nodes: NodeView[];
}

/** Subjects at one place whose edge is at another. */
export interface Way {
  from: Place;
  to: Place;
  subjectCount: number;
}

/** Labels that say where something stands, as the manager reads them. */
function positionOf(
  labels: Record<string, string>,
): { name: string; longitude: number; latitude: number } | undefined {
  const degrees = (key: string, most: number) => {
    const value = Number.parseFloat(labels[key] ?? '');
    return Math.abs(value) <= most ? value : undefined;
  };
  const [longitude, latitude] = [degrees('longitude', 180), degrees('latitude', 90)];
  if (longitude === undefined || latitude === undefined) return undefined;
  const named = [labels.city, labels.country].filter(Boolean).join(', ');
  return { name: named || `${latitude}°, ${longitude}°`, longitude, latitude };
}

/** Places, the fullest of edges first, and how many have no place. */
export function placesOf(edges: EdgeView[], nodes: NodeView[]): { places: Place[]; unplacedCount: number } {
  const places = new Map<string, Place>();
  let unplacedCount = 0;
  const placeOf = (labels: Record<string, string>): Place | undefined => {
    const position = positionOf(labels);
    if (!position) {
      unplacedCount += 1;
      return undefined;
    }
    // What is this close (some kilometres) is one place, whatever each calls it.
    const key = `${position.longitude.toFixed(1)} ${position.latitude.toFixed(1)}`;
    const place = places.get(key) ?? { ...position, edges: [], nodes: [] };
    places.set(key, place);
    return place;
  };
  for (const edge of edges) placeOf(edge.labels)?.edges.push(edge);
  for (const node of nodes) placeOf(node.labels)?.nodes.push(node);
  const sorted = [...places.values()].sort(
    (one, other) => other.edges.length - one.edges.length || one.name.localeCompare(other.name),
  );
  return { places: sorted, unplacedCount };
}

/** Ways that the plan's subjects take from one place to another. */
export function waysOf(places: Place[], plan: PlanView | undefined): Way[] {
  const edgePlace = new Map(
    places.flatMap((place) => place.edges.map((edge) => [edge.name, place] as const)),
  );
  const nodePlace = new Map(
    places.flatMap((place) => place.nodes.map((node) => [node.name, place] as const)),
  );
  const ways = new Map<string, Way>();
  for (const { subject, edge } of plan?.subjects ?? []) {
    const from = nodePlace.get(nodeOf(subject));
    const to = edge ? edgePlace.get(edge) : undefined;
    if (!from || !to || from === to) continue;
    const key = `${places.indexOf(from)} ${places.indexOf(to)}`;
    const way = ways.get(key) ?? { from, to, subjectCount: 0 };
    way.subjectCount += 1;
    ways.set(key, way);
  }
  return [...ways.values()].sort((one, other) => one.subjectCount - other.subjectCount);
}

/** The node of a subject, `node/NAME` or `workload/NODE/NAME`. */
export function nodeOf(subject: string): string {
  return subject.split('/')[1] ?? '';
}
