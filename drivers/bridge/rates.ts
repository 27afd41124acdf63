/** Rates and sizes in the words of tc(8): as iproute2 reads them (lib/utils.c, get_rate64(), get_size()). Pure. */

/** Bits per second in one of each; case does not matter. Without a word: bits. */
const RATE_WORDS: Readonly<Record<string, number>> = {
  '': 1,
  bit: 1,
  kbit: 1e3,
  mbit: 1e6,
  gbit: 1e9,
  tbit: 1e12,
  kibit: 2 ** 10,
  mibit: 2 ** 20,
  gibit: 2 ** 30,
  tibit: 2 ** 40,
  bps: 8,
  kbps: 8e3,
  mbps: 8e6,
  gbps: 8e9,
  tbps: 8e12,
  kibps: 8 * 2 ** 10,
  mibps: 8 * 2 ** 20,
  gibps: 8 * 2 ** 30,
  tibps: 8 * 2 ** 40,
};

/** Bytes in one of each. Unlike those of rates they count in 1024s, the bits as well. */
const SIZE_WORDS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 2 ** 10,
  kb: 2 ** 10,
  m: 2 ** 20,
  mb: 2 ** 20,
  g: 2 ** 30,
  gb: 2 ** 30,
  kbit: 2 ** 7,
  mbit: 2 ** 17,
  gbit: 2 ** 27,
};

/** Bytes per second; undefined for what is no rate. */
export function parseRate(text: string): number | undefined {
  const bits = parse(text, RATE_WORDS);
  return bits === undefined ? undefined : Math.trunc(bits / 8);
}

/** Bytes; undefined for what is no size. */
export function parseSize(text: string): number | undefined {
  const bytes = parse(text, SIZE_WORDS);
  return bytes === undefined ? undefined : Math.trunc(bytes);
}

function parse(text: string, words: Readonly<Record<string, number>>): number | undefined {
  const [, number = '', word = ''] = /^(\d+(?:\.\d+)?)([a-z]*)$/i.exec(text) ?? [];
  const scale = words[word.toLowerCase()];
  return number === '' || scale === undefined ? undefined : Number(number) * scale;
}
