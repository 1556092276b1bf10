/** Settings of compression and encryption of values; the same in every program that serves HTTP. */
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { COMPRESS_ABOVE_BYTES_DEFAULT } from "#shared/limits-codec.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";

export const codecSettings = {
  masterKeyFile: {
    key: "master-key-file",
    type: "path",
    default: "",
    description:
      "File with master keys, one `id:base64` a line, the current one first; readable by its owner " +
      "only. Values are encrypted when there is one.",
  },
  masterKey: {
    key: "master-key",
    type: "string",
    default: "",
    secret: true,
    neverAsFlag: true,
    description: "The same lines themselves, separated by commas where a line cannot end.",
  },
  masterKeyCommand: {
    key: "master-key-command",
    type: "string",
    default: "",
    description:
      "A program that prints the lines, such as a client of a key management service; with its " +
      "arguments, separated by spaces, in double quotes where they have some. Started without a shell.",
  },
  compressAbove: {
    key: "compress-above",
    type: "bytes",
    min: 0,
    max: VALUE_SIZE_BYTES_MAX,
    default: COMPRESS_ABOVE_BYTES_DEFAULT,
    description: "Values of more bytes are compressed where that saves enough; 0 for none.",
  },
} as const;

export type CodecConfig = ConfigOf<typeof codecSettings>;

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseCodecConfig(config: CodecConfig): string | undefined {
  const { masterKeyFile, masterKey, masterKeyCommand } = config;
  const given = [masterKeyFile, masterKey, masterKeyCommand].filter((text) => text !== "");
  if (given.length <= 1) return undefined;
  return "master keys come from one source: master-key-file, master-key or master-key-command";
}
