// Follows a library into a file with one JSON object a line, from Node, with nothing generated: the contracts are read as they are.
//
//   npm ci && npx tsx subscriber.ts 127.0.0.1:50061 pictures.jsonl
//   mediasync subscribers add pictures 127.0.0.1:50061 --from beginning
//
// The last line about a file counts. Everything of a call is on the disk before it is answered; a kill in the middle leaves a line without
// an end, which is cut off at the next start, and the same events come again.

import { appendFileSync, closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

interface FilePath { raw: Buffer; display: string }
interface Metadata { prompt: string; model: string; seed?: string }
interface FileRecord {
  library_path: FilePath;
  library_root: string;
  digest: { value: Buffer } | null;
  moved_from: FilePath | null;
  metadata: Metadata | null;
}
interface Event { event_id: string; type: string | number; file?: FileRecord }
interface Question { library_path: FilePath; library_root: string; digest: { value: Buffer } | null }
interface Picture {
  root: string;
  path: string;
  shown: string;
  sha256: string;
  atSource: boolean;
  prompt?: string;
  model?: string;
  seed?: string;
  gone?: true;
}

const [address, file, protos = fileURLToPath(new URL("../../protos", import.meta.url))] = process.argv.slice(2);
if (!address || !file) {
  console.error("usage: tsx subscriber.ts HOST:PORT FILE [PROTOS]");
  process.exit(2);
}

// Names are bytes and need not be UTF-8: a path is kept as base64, and `shown` beside it is for people.
const key = (root: string, path: string) => `${root}\n${path}`;
const pictures = new Map<string, Picture>();

function remember(picture: Picture): void {
  if (picture.gone) pictures.delete(key(picture.root, picture.path));
  else pictures.set(key(picture.root, picture.path), picture);
}

if (existsSync(file)) {
  const text = readFileSync(file);
  const whole = text.lastIndexOf("\n") + 1;
  if (whole < text.length) truncateSync(file, whole);
  for (const line of text.toString("utf8", 0, whole).split("\n")) if (line) remember(JSON.parse(line));
}
const journal = openSync(file, "a");

const ABOUT_FILES = ["EVENT_TYPE_FILE_SYNCED", "EVENT_TYPE_FILE_PROCESSED", "EVENT_TYPE_FILE_DELETED"];

/** What an event makes of its file: one line, or two where it was moved. Types that are not known are none of our business. */
function lines(event: Event, known: (root: string, path: string) => Picture | undefined): Picture[] {
  if (!event.file || !ABOUT_FILES.includes(String(event.type))) return [];
  const { library_root: root, library_path: { raw, display: shown }, digest, moved_from: movedFrom, metadata } = event.file;
  const path = raw.toString("base64");
  const was = known(root, movedFrom ? movedFrom.raw.toString("base64") : path);
  const picture: Picture = { atSource: true, ...was, root, path, shown, sha256: digest?.value.toString("hex") ?? "" };
  if (event.type === "EVENT_TYPE_FILE_DELETED") picture.atSource = false;
  if (metadata) Object.assign(picture, { prompt: metadata.prompt, model: metadata.model, seed: metadata.seed }); // a seed has 64 bits: a string
  return movedFrom && was ? [{ ...was, gone: true }, picture] : [picture];
}

function onBatchSynced(call: grpc.ServerUnaryCall<{ events: Event[] }, unknown>, answer: grpc.sendUnaryData<unknown>): void {
  const fresh = new Map<string, Picture>(); // what this call changes, seen by its later events
  const written: Picture[] = [];
  try {
    for (const event of call.request.events) {
      for (const picture of lines(event, (root, path) => fresh.get(key(root, path)) ?? pictures.get(key(root, path)))) {
        fresh.set(key(picture.root, picture.path), picture);
        written.push(picture);
      }
    }
    if (written.length) {
      appendFileSync(journal, written.map((picture) => JSON.stringify(picture) + "\n").join(""));
      fsyncSync(journal);
      written.forEach(remember);
    }
  } catch (error) {
    // The disk is full, perhaps. Whatever was written of it is not counted on: after a new start the same events come again.
    console.error(error);
    answer({ code: grpc.status.UNAVAILABLE, details: String(error) });
    process.exitCode = 1;
    server.tryShutdown(() => process.exit());
    return;
  }
  answer(null, { results: call.request.events.map((event) => ({ event_id: event.event_id, verdict: "EVENT_VERDICT_ACCEPTED" })) });
}

function exists({ library_path: { raw }, library_root: root, digest }: Question): boolean {
  const path = raw.toString("base64");
  const found = root ? [pictures.get(key(root, path))] : [...pictures.values()].filter((picture) => picture.path === path);
  return found.some((picture) => picture && (!digest?.value.length || digest.value.toString("hex") === picture.sha256));
}

const loaded = loadSync("mediasync/v1/media_ingest.proto", {
  includeDirs: [protos], keepCase: true, longs: String, enums: String, bytes: Buffer as never, defaults: true, oneofs: true,
});
const { MediaIngest } = (grpc.loadPackageDefinition(loaded) as any).mediasync.v1;
const server = new grpc.Server({ "grpc.max_receive_message_length": 32 << 20 });
server.addService(MediaIngest.service, {
  OnBatchSynced: onBatchSynced,
  VerifyFileExists: (call: any, answer: any) => answer(null, { exists: exists(call.request) }),
  VerifyFilesExist: (call: any, answer: any) => answer(null, { exists: call.request.files.map(exists) }),
});
server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log(`serving on ${address}, ${pictures.size} pictures on record`);
});
process.on("SIGTERM", () => server.tryShutdown(() => { closeSync(journal); process.exit(); }));
