/**
 * Operators' routes below `/admin`: the state of the cluster, and changes of it.
 *
 * A change is answered when it is decided, not when it is carried out: `GET /admin/status` shows how far
 * it is.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Action } from "#gateway/auth/caller.ts";
import type { ClusterView } from "#gateway/cluster/cluster-view.ts";
import type { Answer } from "#gateway/http/exchange.ts";
import type { HttpFigures } from "#gateway/http/http-figures.ts";
import {
  jsonAnswer,
  type ManagedMethod,
  type ManagedRequest,
  type ManagedRoute,
} from "#gateway/http/managed-route.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import { ChangeClusterRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { type ErrorCode, KvError } from "#shared/errors.ts";
import { ADMIN_CALLS_MAX, ADMIN_STATUS_TIMEOUT_MS_DEFAULT } from "#shared/limits.ts";
import { gatewayFiguresJson, type WatchSummary } from "./figures.ts";
import {
  addressOf,
  bodyOf,
  flagOf,
  groupOf,
  nodeIdOf,
  queryOf,
  refuseWebPages,
} from "./requests.ts";
import { statusFromGateway, statusFromLeader } from "./status.ts";

export type AdminOptions = {
  readonly cluster: ClusterView;
  readonly clock: Clock;
  readonly http: HttpFigures;
  /** Of the clients that watch through this gateway. */
  readonly watch: () => WatchSummary;
};

type Change = NonNullable<MessageInitShape<typeof ChangeClusterRequestSchema>["change"]>;
type Parameters = (name: string) => string;

export function adminRoutes(options: AdminOptions): readonly ManagedRoute[] {
  const admin = new Admin(options);
  const change = (changeOf: ChangeOf) => admin.method("cluster.change", admin.change(changeOf));
  return [
    {
      path: "/admin/status",
      methods: new Map([["GET", admin.method("cluster.read", admin.status)]]),
    },
    { path: "/admin/nodes", methods: new Map([["POST", change(invite)]]) },
    { path: "/admin/nodes/:id", methods: new Map([["DELETE", change(remove)]]) },
    {
      path: "/admin/nodes/:id/drain",
      methods: new Map([
        ["POST", change(drain)],
        ["DELETE", change(cancelDrain)],
      ]),
    },
    { path: "/admin/vshards/:vshard/transfer", methods: new Map([["POST", change(transfer)]]) },
    { path: "/admin/rebalance", methods: new Map([["POST", change(rebalance)]]) },
  ];
}

type Carry = (request: ManagedRequest) => Promise<Answer>;
type Body = Readonly<Record<string, unknown>>;
type ChangeOf = {
  readonly members: readonly string[];
  readonly make: (parameter: Parameters, body: Body) => Change;
};

const invite: ChangeOf = {
  members: ["address"],
  make: (_, { address }) => ({ case: "invite", value: { address: addressOf(address) } }),
};
const remove: ChangeOf = {
  members: [],
  make: (parameter) => ({ case: "remove", value: { nodeId: nodeIdOf(parameter("id")) } }),
};
const drain: ChangeOf = {
  members: [],
  make: (parameter) => ({ case: "drain", value: { nodeId: nodeIdOf(parameter("id")) } }),
};
const cancelDrain: ChangeOf = {
  members: [],
  make: (parameter) => ({ case: "cancelDrain", value: { nodeId: nodeIdOf(parameter("id")) } }),
};
const transfer: ChangeOf = {
  members: ["node"],
  make: (parameter, { node }) => ({
    case: "transfer",
    value: { group: groupOf(parameter("vshard")), nodeId: nodeIdOf(node) },
  }),
};
const rebalance: ChangeOf = {
  members: [],
  make: () => ({ case: "rebalance", value: {} }),
};

/** Without any of these from the meta group, the gateway tells what it knows itself. */
const NOBODY_ANSWERS: ReadonlySet<ErrorCode> = new Set([
  "NOT_LEADER",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
]);

class Admin {
  readonly #options: AdminOptions;
  #calls = 0;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  method(access: Action, run: Carry): ManagedMethod {
    return { access, run: (request) => this.#bounded(() => run(request)) };
  }

  /** Each of these costs storage nodes a connection. */
  async #bounded(run: () => Promise<Answer>): Promise<Answer> {
    if (this.#calls >= ADMIN_CALLS_MAX) {
      throw new RequestRefused("OVERLOADED", `${ADMIN_CALLS_MAX} operators' requests run already`);
    }
    this.#calls++;
    try {
      return await run();
    } finally {
      this.#calls--;
    }
  }

  readonly status: Carry = async ({ exchange }) => {
    const { cluster, clock } = this.#options;
    const withGroups = flagOf(queryOf(exchange, ["groups"]).get("groups"), "groups");
    const timeoutMs =
      exchange.header("minikv-timeout") === undefined
        ? ADMIN_STATUS_TIMEOUT_MS_DEFAULT
        : parseTimeoutMs(exchange);
    try {
      const response = await cluster.admin.status({ deadlineMs: clock.nowMs() + timeoutMs });
      const { isReachable } = cluster;
      const gateway = this.#figures();
      return jsonAnswer(exchange, statusFromLeader({ response, isReachable, withGroups, gateway }));
    } catch (error) {
      const map = cluster.map();
      if (map === undefined || !(error instanceof KvError)) throw error;
      if (!NOBODY_ANSWERS.has(error.code)) throw error;
      const { isReachable } = cluster;
      const own = { map, isReachable, reason: error.message, gateway: this.#figures() };
      return jsonAnswer(exchange, statusFromGateway(own));
    }
  };

  #figures() {
    const { clock, http, watch } = this.#options;
    return gatewayFiguresJson({ http, uptimeMs: clock.monotonicMs(), watch: watch() });
  }

  readonly change =
    ({ members, make }: ChangeOf): Carry =>
    async ({ exchange, parameter }) => {
      const { cluster, clock } = this.#options;
      refuseWebPages(exchange);
      queryOf(exchange, []);
      const timeoutMs = parseTimeoutMs(exchange);
      const change = make(parameter, await bodyOf(exchange, members));
      const request = create(ChangeClusterRequestSchema, { change });
      const deadlineMs = clock.nowMs() + timeoutMs;
      const { detail, mapVersion, nodeId } = await cluster.admin.change(request, { deadlineMs });
      return jsonAnswer(exchange, {
        detail,
        map_version: Number(mapVersion),
        ...(nodeId === 0 ? {} : { node_id: nodeId }),
      });
    };
}
