/**
 * What HTTP requests have been answered, counted in plain numbers; metrics read them.
 *
 * Nothing that a client sends becomes a name here: routes are the templates of `app.ts`, methods those of
 * a short list, statuses five classes. So the numbers stay few, whatever is asked for.
 */
import { LatencyHistogram } from "#shared/latency-histogram.ts";

const METHODS = ["GET", "PUT", "HEAD", "DELETE", "POST", "OPTIONS", "PATCH"] as const;
/** Label of all other methods. */
export const OTHER_METHOD = "_OTHER";
/** Label of paths where nothing is. */
export const NO_ROUTE = "_none";
/** By the first digit of a status; 0 for requests whose client went away before an answer began. */
const STATUSES = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"] as const;

/** Answers that last until somebody ends them: their durations would tell nothing of the others. */
const ENDLESS = /^(?:\/v1)?\/watch(?:\/|$)/;

const ROUTES_MAX = 200;
const METHOD_COUNT = METHODS.length + 1;

/** Of one route and method. */
export type HttpCell = {
  readonly route: string;
  readonly method: string;
  /** In the order of STATUSES. */
  readonly statuses: Float64Array;
  readonly durations: LatencyHistogram;
};

export class HttpFigures {
  inFlight = 0;
  readonly #connections: (() => number)[] = [];
  readonly #routes: string[] = [NO_ROUTE];
  readonly #indexes = new Map<string, number>([[NO_ROUTE, 0]]);
  /** By number of the route. */
  readonly #endless: boolean[] = [false];
  /** By route and method. */
  readonly #cells: (HttpCell | undefined)[] = [];

  /** `count` is asked when somebody wants to know. */
  addConnections(count: () => number): void {
    this.#connections.push(count);
  }

  get connections(): number {
    return this.#connections.reduce((sum, count) => sum + count(), 0);
  }

  /** What came on a connection was no request, and was answered so or not at all. */
  malformed(): void {
    this.finished(0, OTHER_METHOD, 400, undefined);
  }

  /** Number of a route's template, as `finished` takes it. To be called once for each route. */
  routeIndex(template: string): number {
    const known = this.#indexes.get(template);
    if (known !== undefined) return known;
    // Templates are few. Should somebody count paths instead, they must not become series.
    if (this.#routes.length >= ROUTES_MAX) return 0;
    const index = this.#routes.push(template) - 1;
    this.#indexes.set(template, index);
    this.#endless[index] = ENDLESS.test(template);
    return index;
  }

  /** `status` 0: the client went away. Undefined durations are not counted, nor those of watches. */
  finished(route: number, method: string, status: number, durationMs: number | undefined): void {
    const cell = this.#cell(route, method);
    const digit = Math.trunc(status / 100);
    cell.statuses[digit < STATUSES.length ? digit : 0]!++;
    if (durationMs === undefined || this.#endless[route]) return;
    cell.durations.observe(durationMs);
  }

  *cells(): Iterable<HttpCell> {
    for (const cell of this.#cells) if (cell !== undefined) yield cell;
  }

  #cell(route: number, method: string): HttpCell {
    const found = METHODS.indexOf(method as (typeof METHODS)[number]);
    const at = route * METHOD_COUNT + (found < 0 ? METHODS.length : found);
    return (this.#cells[at] ??= {
      route: this.#routes[route]!,
      method: found < 0 ? OTHER_METHOD : method,
      statuses: new Float64Array(STATUSES.length),
      durations: new LatencyHistogram(),
    });
  }
}

/** The statuses of a cell that have occurred, with how often. */
export function* statusesOf({ statuses }: HttpCell): Iterable<readonly [string, number]> {
  for (let at = 0; at < STATUSES.length; at++) {
    if (statuses[at]! > 0) yield [STATUSES[at]!, statuses[at]!];
  }
}
