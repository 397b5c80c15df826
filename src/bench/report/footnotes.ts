/** What is said of a cell beside its number, or in place of one. */
export interface Footnotes {
  /** The mark of this text, "1"; the same for the same text. */
  mark: (text: string) => string;
  /** In the order of their marks. */
  texts: readonly string[];
}

export function footnotes(): Footnotes {
  const texts: string[] = [];
  return {
    texts,
    mark: (text) => {
      if (!texts.includes(text)) texts.push(text);
      return String(texts.indexOf(text) + 1);
    },
  };
}
