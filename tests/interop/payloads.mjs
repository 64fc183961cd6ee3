// Payloads for tests of compression, which must be echoed unchanged.

const SIZES = [0, 1, 100, 1_024, 16_384, 65_536, 1024 * 1024, 4 * 1024 * 1024];

/** Pairs of a name and a payload: JSON, multi-byte text, and random bytes. */
export function* payloads() {
  for (const size of SIZES) {
    yield [`${size} bytes of JSON`, json(size)];
    yield [`${size} bytes of long characters`, "中文😀é ".repeat(Math.floor(size / 13))];
    yield [`${size} random bytes`, random(size)];
  }
}

function json(size) {
  const records = [];
  for (let length = 0; length < size; length += records.at(-1).length + 1) {
    const id = records.length;
    records.push(JSON.stringify({ id, user: `user-${(id * 7919) % 1_000}`, score: (id * 104_729) % 65_536, tags: ["a", "b"] }));
  }
  return records.join(",").slice(0, size);
}

function random(size) {
  const bytes = new Uint8Array(size);
  const most = 65_536; // the platform's limit per call
  for (let start = 0; start < size; start += most) crypto.getRandomValues(bytes.subarray(start, start + most));
  return globalThis.Buffer ? Buffer.from(bytes.buffer) : bytes;
}
