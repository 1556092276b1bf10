import { describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { HttpFigures, NO_ROUTE, OTHER_METHOD, statusesOf } from "./http-figures.ts";

describe("HttpFigures", () => {
  it("counts by route, method and class of the status", () => {
    const figures = new HttpFigures();
    const key = figures.routeIndex("/v1/kv/{key}");
    expect(figures.routeIndex("/v1/kv/{key}")).toBe(key);
    figures.finished(key, "PUT", 201, 3);
    figures.finished(key, "PUT", 412, 1);
    figures.finished(key, "PUT", 0, 1);
    figures.finished(0, "GET", 404, undefined);
    const cells = [...figures.cells()].map((cell) => ({
      ...{ route: cell.route, method: cell.method, durations: cell.durations.count },
      statuses: Object.fromEntries(statusesOf(cell)),
    }));
    expect(cells).toEqual([
      { route: NO_ROUTE, method: "GET", durations: 0, statuses: { "4xx": 1 } },
      {
        route: "/v1/kv/{key}",
        method: "PUT",
        durations: 3,
        statuses: { "2xx": 1, "4xx": 1, none: 1 },
      },
    ]);
  });

  it("leaves out how long watches last", () => {
    const figures = new HttpFigures();
    for (const route of ["/v1/watch", "/watch", "/v1/watch/ws", "/v1/watches"]) {
      figures.finished(figures.routeIndex(route), "GET", 200, 1e6);
    }
    expect([...figures.cells()].map(({ durations }) => durations.count)).toEqual([0, 0, 0, 1]);
  });

  it("keeps few numbers whatever methods and statuses come", () => {
    const figures = new HttpFigures();
    const routes = ["/a", "/b", "/c"].map((route) => figures.routeIndex(route));
    const random = new SeededRandom(7);
    for (let i = 0; i < 10_000; i++) {
      const method = `M${random.below(10_000)}`;
      figures.finished(routes[random.below(3)]!, method, random.below(1_000), 1);
    }
    const cells = [...figures.cells()];
    expect(cells.map(({ method }) => method)).toEqual([OTHER_METHOD, OTHER_METHOD, OTHER_METHOD]);
    const series = cells.flatMap((cell) => [...statusesOf(cell)]);
    expect(series.length).toBeLessThanOrEqual(18);
    expect(series.reduce((sum, [, count]) => sum + count, 0)).toBe(10_000);
  });

  it("has room for so many routes and no more", () => {
    const figures = new HttpFigures();
    const numbers = Array.from({ length: 1_000 }, (_, i) => figures.routeIndex(`/r${i}`));
    expect(new Set(numbers).size).toBe(200);
    expect(numbers.at(-1)).toBe(0);
    expect(figures.routeIndex("/r7")).toBe(numbers[7]);
  });

  it("sums the connections of all listeners", () => {
    const figures = new HttpFigures();
    expect(figures.connections).toBe(0);
    figures.addConnections(() => 2);
    figures.addConnections(() => 3);
    expect(figures.connections).toBe(5);
  });
});
