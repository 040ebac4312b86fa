declare module 'virtual:world' {
  /** The land of the world, as the path of an SVG on the sheet of `map/projection`. */
  export const LAND: string;
}
