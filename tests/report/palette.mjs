// PNG files with a palette: of a screenshot, which is mostly text on plain ground, a third of the size.
//
// Owns reading the eight-bit RGB and RGBA files that browsers write, and writing at most 256 colours
// (https://www.w3.org/TR/png/). Called by screenshot.mjs.

import { deflateSync, inflateSync } from "node:zlib";

const COLOURS = 256;
const SIGNATURE = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");

const CRCS = Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc >>> 0;
});

function chunk(kind, content) {
  const body = Buffer.concat([Buffer.from(kind, "latin1"), content]);
  let crc = 0xffffffff;
  for (const byte of body) crc = CRCS[(crc ^ byte) & 255] ^ (crc >>> 8);
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(content.length, 0);
  ends.writeUInt32BE((crc ^ 0xffffffff) >>> 0, 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

// Width, height and the colour of every pixel as 0xRRGGBB.
function pixels(png) {
  const chunks = [];
  for (let place = 8; place < png.length; place += png.readUInt32BE(place) + 12) {
    const kind = png.toString("latin1", place + 4, place + 8);
    chunks.push([kind, png.subarray(place + 8, place + 8 + png.readUInt32BE(place))]);
  }
  const head = chunks.find(([kind]) => kind === "IHDR")[1];
  const [width, height, depth, kind] = [head.readUInt32BE(0), head.readUInt32BE(4), head[8], head[9]];
  if (depth !== 8 || (kind !== 2 && kind !== 6)) throw new Error("no RGB or RGBA of eight bits");
  const size = kind === 2 ? 3 : 4;
  const rows = inflateSync(Buffer.concat(chunks.filter(([kind]) => kind === "IDAT").map(([, content]) => content)));
  const found = new Uint32Array(width * height);
  let before = new Uint8Array(width * size);
  for (let y = 0; y < height; y++) {
    const start = y * (width * size + 1);
    const row = Uint8Array.from(rows.subarray(start + 1, start + 1 + width * size));
    for (let x = 0; x < row.length; x++) {
      const left = x < size ? 0 : row[x - size];
      const corner = x < size ? 0 : before[x - size];
      row[x] += predicted(rows[start], left, before[x], corner);
    }
    for (let x = 0; x < width; x++) {
      const [r, g, b] = row.subarray(x * size, x * size + 3);
      found[y * width + x] = (r << 16) | (g << 8) | b;
    }
    before = row;
  }
  return { width, height, found };
}

function predicted(filter, left, above, corner) {
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  if (filter !== 4) return 0;
  const guess = left + above - corner;
  const [a, b, c] = [left, above, corner].map((value) => Math.abs(guess - value));
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

// The most frequent colours, of very similar ones only one.
function palette(found) {
  const counts = new Map();
  for (const colour of found) counts.set(colour, (counts.get(colour) || 0) + 1);
  const cells = new Map();
  for (const [colour, count] of counts) {
    const cell = colour & 0xf8f8f8;
    const best = cells.get(cell);
    if (!best || best[1] < count) cells.set(cell, [colour, count + (best ? best[1] : 0)]);
    else best[1] += count;
  }
  const order = [...cells.values()].sort((one, other) => other[1] - one[1]);
  return order.slice(0, COLOURS).map(([colour]) => colour);
}

function nearest(colours, wanted) {
  const distance = (colour) => {
    const [r, g, b] = [16, 8, 0].map((shift) => ((colour >> shift) & 255) - ((wanted >> shift) & 255));
    return 2 * r * r + 4 * g * g + 3 * b * b;
  };
  return colours.reduce((best, colour, place) => (distance(colour) < distance(colours[best]) ? place : best), 0);
}

export function withPalette(png) {
  const { width, height, found } = pixels(png);
  const colours = palette(found);
  const places = new Map();
  const rows = Buffer.alloc(height * (width + 1));
  for (let place = 0; place < found.length; place++) {
    const colour = found[place];
    if (!places.has(colour)) places.set(colour, nearest(colours, colour));
    rows[place + Math.floor(place / width) + 1] = places.get(colour);
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const list = Buffer.from(colours.flatMap((colour) => [colour >> 16, (colour >> 8) & 255, colour & 255]));
  return Buffer.concat([
    SIGNATURE, chunk("IHDR", head), chunk("PLTE", list), chunk("IDAT", deflateSync(rows, { level: 9 })), chunk("IEND", Buffer.alloc(0)),
  ]);
}
