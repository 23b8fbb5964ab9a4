// Languages of models: which there are, and how they are shown.

const NAMES = new Intl.DisplayNames(["en"], { type: "language" });
// Scripts that are written from right to left.
const RIGHT_TO_LEFT = new Set([
  "Adlm", "Arab", "Aran", "Hebr", "Mand", "Mend", "Nkoo", "Rohg", "Samr", "Syrc", "Syre", "Syrj", "Syrn", "Thaa",
  "Yezi",
]);

/** Languages from which the models translate, by name. */
export function sourcesOf(models) {
  return byName(models.flatMap(({ languagePairs = [], sourceLanguages = [] }) => [
    ...languagePairs.map((it) => it.sourceLanguage),
    ...sourceLanguages,
  ]));
}

/** Languages into which the models translate `source`, or any language if `source` is empty; by name. */
export function targetsOf(models, source) {
  return byName(models.flatMap(({ languagePairs = [], sourceLanguages = [], targetLanguages = [] }) => [
    ...languagePairs.filter((it) => !source || it.sourceLanguage === source).map((it) => it.targetLanguage),
    ...targetLanguages.filter((it) => !source || (sourceLanguages.includes(source) && it !== source)),
  ]));
}

/** The name of a language in English; its tag if it has none. */
export function nameOf(tag) {
  const locale = localeOf(tag);
  return locale ? NAMES.of(locale.baseName) : tag;
}

/** Of languages, the one that is wanted; else one that the user reads, else English, else the first. */
export function bestOf(tags, wanted) {
  const own = navigator.languages.flatMap((it) => [it, localeOf(it)?.language]);
  return [wanted, ...own, "en"].find((it) => tags.includes(it)) ?? tags[0];
}

/** The direction in which a language is written; "auto", by the text, if the language is unknown. */
export function directionOf(tag) {
  const script = localeOf(tag)?.maximize().script;
  if (!script) return "auto";
  return RIGHT_TO_LEFT.has(script) ? "rtl" : "ltr";
}

/** The value of the attribute `lang`. */
export function langOf(tag) {
  return localeOf(tag)?.baseName ?? "";
}

/** A tag as the browser knows it; undefined if it is none. Models may write "eng_Latn". */
function localeOf(tag) {
  try {
    return new Intl.Locale(tag.replaceAll("_", "-"));
  } catch {
    return undefined;
  }
}

function byName(tags) {
  return [...new Set(tags)].sort((one, other) => nameOf(one).localeCompare(nameOf(other), "en"));
}
