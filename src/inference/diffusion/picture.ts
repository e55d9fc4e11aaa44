/** Pixels as 8-bit RGB rows, [height, width, 3]. */
export interface Picture {
  data: Uint8Array;
  width: number;
  height: number;
}
