// A folder as one ZIP without compression, made of Blobs: nothing of it is held in memory.
// ZIP64 records are written where a size or an offset needs more than 32 bits.

const CRC_TABLE = new Uint32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

async function crc32(blob, onBytes) {
  const step = 8 * 1024 * 1024;
  let crc = 0xffffffff;
  for (let at = 0; at < blob.size; at += step) {
    const bytes = new Uint8Array(await blob.slice(at, at + step).arrayBuffer());
    for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
    onBytes(bytes.length);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

// fields: [bytes, value] pairs, little-endian; 8-byte values as Numbers below 2^53
function record(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 8) view.setBigUint64(at, BigInt(value), true);
    else if (bytes === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += bytes;
  }
  return view.buffer;
}

const BIG = 0xffffffff;
const capped = (value) => Math.min(value, BIG);
const UTF8_NAMES = 0x0800, STORED = 0, VERSION = 45, DATE = 0x21; // 1 January 1980: equal folders make equal bytes

// files: [{path, file}]; onBytes is told of bytes read for the checksums
async function zipOf(files, onBytes) {
  const parts = [], directory = [];
  let offset = 0;
  for (const { path, file } of files) {
    const name = new TextEncoder().encode(path), crc = await crc32(file, onBytes), size = file.size;
    const common = [[2, VERSION], [2, UTF8_NAMES], [2, STORED], [2, 0], [2, DATE], [4, crc], [4, capped(size)], [4, capped(size)], [2, name.length]];
    const sizes = size >= BIG ? [[8, size], [8, size]] : [];
    const localExtra = sizes.length ? record([2, 1], [2, 16], ...sizes) : new ArrayBuffer(0);
    const local = [record([4, 0x04034b50], ...common, [2, localExtra.byteLength]), name, localExtra, file];
    const wide = [...sizes, ...(offset >= BIG ? [[8, offset]] : [])];
    const extra = wide.length ? record([2, 1], [2, 8 * wide.length], ...wide) : new ArrayBuffer(0);
    directory.push(record([4, 0x02014b50], [2, VERSION], ...common, [2, extra.byteLength], [2, 0], [2, 0], [2, 0], [4, 0], [4, capped(offset)]), name, extra);
    parts.push(...local);
    offset += new Blob(local).size;
  }
  const count = files.length, length = new Blob(directory).size;
  const end64 = record([4, 0x06064b50], [8, 44], [2, VERSION], [2, VERSION], [4, 0], [4, 0], [8, count], [8, count], [8, length], [8, offset]);
  const locator = record([4, 0x07064b50], [4, 0], [8, offset + length], [4, 1]);
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, Math.min(count, 0xffff)], [2, Math.min(count, 0xffff)], [4, capped(length)], [4, capped(offset)], [2, 0]);
  return new Blob([...parts, ...directory, end64, locator, end]);
}

// The files of a dropped or chosen folder, hidden ones left out, paths relative to it.
async function filesOfEntry(entry, below = "") {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [{ path: below + entry.name, file: await new Promise((done, fail) => entry.file(done, fail)) }];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    for (const each of some) found.push(...await filesOfEntry(each, below + entry.name + "/"));
  }
  return found;
}

function filesOfInput(list) {
  return [...list].map((file) => ({ path: file.webkitRelativePath, file }))
    .filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
}

async function folderAsZip(files, onShare) {
  const sorted = files.map(({ path, file }) => ({ path: path.split("/").slice(1).join("/"), file }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  const total = sorted.reduce((sum, { file }) => sum + file.size, 0) || 1;
  let read = 0;
  return zipOf(sorted, (bytes) => onShare((read += bytes) / total));
}
