// Times as a person reads them, in the browser's own language and zone.

const DAY_MS = 86_400_000;
const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortWeekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const dateFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const shortFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** Local midnight of the day: equal for two times of one day. */
export function dayOf(at) {
  return new Date(at).setHours(0, 0, 0, 0);
}

function daysAgo(at) {
  // Rounded: a day of a clock change has 23 or 25 hours.
  return Math.round((dayOf(Date.now()) - dayOf(at)) / DAY_MS);
}

/** 14:03 */
export function clock(at) {
  return clockFormat.format(at);
}

/** Today, Yesterday, Friday, Friday, 21 November, 21 November 2024 */
export function dayName(at) {
  const ago = daysAgo(at);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  if (ago > 1 && ago < 7) return weekdayFormat.format(at);
  return new Date(at).getFullYear() === new Date().getFullYear() ? dayFormat.format(at) : dateFormat.format(at);
}

/** For a narrow column: 14:03, Yesterday, Fri, 21 Nov */
export function briefly(at) {
  const ago = daysAgo(at);
  if (ago <= 0) return clock(at);
  if (ago === 1) return "Yesterday";
  return ago < 7 ? shortWeekdayFormat.format(at) : shortFormat.format(at);
}

/** Everything, for a tooltip. */
export function fully(at) {
  return fullFormat.format(at);
}

/** For the datetime attribute. */
export function iso(at) {
  return new Date(at).toISOString();
}
