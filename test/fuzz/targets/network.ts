/** Parsers of where a request comes from. */
import { limitedNetwork, Networks, normalAddress } from "#gateway/limits/address.ts";
import { ClientAddresses } from "#gateway/limits/client-address.ts";
import { testExchange } from "#gateway/testing/tokens.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  latin1Text,
  noError,
  rangeError,
  textSamples,
} from "#test/fuzz/target.ts";

const ADDRESS_WORDS = ["::", ":", ".", "/", "%", "[", "]", "ffff", "255", "256", "129", " ", "\t"];
const PROXIES = new Networks(["10.0.0.0/8", "2001:db8::/32"]);

const forwarded: FuzzTarget = {
  name: "forwarded-for",
  samples: textSamples(
    "192.0.2.1, 10.0.0.2",
    "203.0.113.7:4711,[2001:db8::1]:80, 10.1.1.1",
    'for=192.0.2.60;proto=http;by=10.0.0.1, for="[2001:db8::9]:4711"',
    "unknown, 198.51.100.9 , ::ffff:192.0.2.1",
  ),
  words: [...ADDRESS_WORDS, ",", ";", "for=", '"', "10.0.0.1", "_hidden", "unknown"],
  check: (input) => {
    const text = latin1Text(input);
    let isClient = false;
    for (const name of ["x-forwarded-for", "forwarded"] as const) {
      const addresses = new ClientAddresses(PROXIES, name);
      const of = (peer: string) =>
        accepted(noError, () =>
          addresses.of({ ...testExchange(peer), header: (asked) => (asked === name ? text : "") }),
        )!.value;
      const client = of("10.0.0.1");
      holds(normalAddress(client) === client, "a client has an address");
      holds(of("192.0.2.77") === "192.0.2.77", "only a trusted proxy is believed");
      accepted(noError, () => limitedNetwork(client));
      isClient ||= client !== "10.0.0.1";
    }
    return isClient;
  },
};

const networks: FuzzTarget = {
  name: "trusted-proxies",
  samples: textSamples("10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "::ffff:1.2.3.4"),
  words: ADDRESS_WORDS,
  check: (input) => {
    const text = latin1Text(input);
    const list = accepted(rangeError, () => new Networks([text]))?.value;
    if (list === undefined) return false;
    const address = normalAddress(text.split("/")[0]!);
    holds(address !== undefined && list.has(address), "a network has its own address in it");
    holds(limitedNetwork(address) === limitedNetwork(address.toLowerCase()), "one case");
    return true;
  },
};

export const NETWORK_TARGETS: readonly FuzzTarget[] = [forwarded, networks];
