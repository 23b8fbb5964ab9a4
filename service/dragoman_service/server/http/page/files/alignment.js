// The words of a text and of its translation that belong together.

/** Shows a text and its translation, and marks the words that belong to one of them. */
export class AlignedTexts {
  /**
   * @param {HTMLElement} source where the text is shown
   * @param {HTMLElement} target where the translation is shown
   */
  constructor(source, target) {
    this.source = source;
    this.target = target;
    this.clear();
  }

  /** Show both texts. Ranges of `alignments`, as `Sentence.alignments` of the reply has them, count code points. */
  show(source, target, alignments) {
    this.sourceWords = showWords(this.source, source, alignments.map((it) => it.source));
    this.targetWords = showWords(this.target, target, alignments.map((it) => it.target));
    // Of all words, Tab reaches one; arrow keys move from there.
    this.targetWords.forEach(({ element }, index) => (element.tabIndex = index === 0 ? 0 : -1));
  }

  /** Forget the words. */
  clear() {
    this.sourceWords = [];
    this.targetWords = [];
  }

  /** Mark a word, given as its element, and the words that belong to it; nothing if the element is no word. */
  mark(element) {
    const words = [...this.sourceWords, ...this.targetWords];
    const links = new Set(words.find((it) => it.element === element)?.links);
    for (const word of words) word.element.classList.toggle("marked", word.links.some((it) => links.has(it)));
  }

  /** The element of the word of the source at an offset in UTF-16, or before it; undefined if there is none. */
  sourceWordAt(offset) {
    const begun = this.sourceWords.filter(({ start }) => start <= offset);
    const last = begun.at(-1);
    return last && offset <= last.end ? last.element : undefined;
  }

  /** Move the focus from one word of the translation to that which stands `steps` behind it. */
  moveFocus(steps) {
    const index = this.targetWords.findIndex(({ element }) => element === document.activeElement);
    if (index < 0) return;
    const next = Math.max(0, Math.min(index + steps, this.targetWords.length - 1));
    this.targetWords[index].element.tabIndex = -1;
    this.targetWords[next].element.tabIndex = 0;
    this.targetWords[next].element.focus();
  }
}

/**
 * Show a text with an element around each part that the same ranges cover.
 *
 * @param {HTMLElement} parent
 * @param {string} text
 * @param {{start?: number, end?: number}[]} ranges of code points; 0 may be left out
 * @returns {{element: HTMLElement, start: number, end: number, links: number[]}[]} the parts that have ranges, in
 *   order; `start` and `end` are offsets in UTF-16, `links` the indices of the ranges
 */
function showWords(parent, text, ranges) {
  const offsets = offsetsOf(text);
  const spans = ranges.map(({ start = 0, end = 0 }) => ({ start: offsets[start], end: offsets[end] }));
  const ends = new Set([0, text.length, ...spans.flatMap(({ start, end }) => [start, end])]);
  const bounds = [...ends].sort((one, other) => one - other);
  const parts = bounds.slice(1).map((end, index) => ({ start: bounds[index], end, links: [] }));
  const indexAt = new Map(parts.map(({ start }, index) => [start, index]));
  spans.forEach(({ start, end }, link) => {
    for (let index = indexAt.get(start); parts[index]?.end <= end; index++) parts[index].links.push(link);
  });
  const words = parts.filter(({ links }) => links.length > 0);
  for (const word of words) {
    word.element = document.createElement("span");
    word.element.className = "word";
    word.element.textContent = text.slice(word.start, word.end);
  }
  parent.replaceChildren(...parts.map(({ element, start, end }) => element ?? text.slice(start, end)));
  return words;
}

/** The offset in UTF-16 of each code point of a text, and of its end. */
function offsetsOf(text) {
  const offsets = [0];
  for (const character of text) offsets.push(offsets.at(-1) + character.length);
  return offsets;
}
