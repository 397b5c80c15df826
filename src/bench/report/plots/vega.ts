/** What is used of vega and vega-lite. One module, because the executable carries it as a bundle of its own. */
export { parse, View, Warn } from 'vega';
export { compile } from 'vega-lite';
