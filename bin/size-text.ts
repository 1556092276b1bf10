/** Sizes for people. */

/** `unknown` stands where nobody knows. */
export function sizeText(bytes: number | null, unknown: string): string {
  if (bytes === null) return unknown;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
