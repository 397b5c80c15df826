/**
 * Dependencies go one way: cli, cni, lab, bench → agent, tunnel, control → enrol, redirect, zds, sources, install → rpc, kubernetes →
 * state, maps, identity, proto → sys → base.
 * Types may be taken from above (a lower part can fill an interface of its user); values may not.
 */
const LAYERS = [
  ['base'],
  ['sys'],
  ['state', 'maps', 'identity', 'proto'],
  ['rpc', 'kubernetes'],
  ['enrol', 'redirect', 'zds', 'sources', 'install'],
  ['agent', 'tunnel', 'control'],
  ['cli', 'cni', 'lab', 'bench'],
];

const folders = (names) => `^src/(${names.join('|')})/`;
const values = { dependencyTypesNot: ['type-only'] };

const oneWay = LAYERS.slice(0, -1).map((layer, height) => ({
  name: `one-way-${layer.join('-')}`,
  comment: `${layer.join(', ')} must not use what is built on top of it`,
  severity: 'error',
  from: { path: folders(layer) },
  to: { path: folders(LAYERS.slice(height + 1).flat()), ...values },
}));

module.exports = {
  forbidden: [
    ...oneWay,
    {
      name: 'no-circular',
      comment: 'a cycle of values: which module runs first would be an accident',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'bench-on-lab',
      comment: 'the benchmark measures in a lab; labs and agents know nothing of it, but for the demo, whose last proof is a quick one',
      severity: 'error',
      from: { path: '^src/(lab|cni)/', pathNot: '^src/lab/demo/' },
      to: { path: '^src/bench/', ...values },
    },
    {
      name: 'plugin-is-small',
      comment: 'the plugin runs once per pod: it loads neither the addon nor the parts of the agent',
      severity: 'error',
      from: { path: '^src/cni/' },
      // api.ts is what plugin and agent say to each other.
      to: {
        path: '^src/(agent|tunnel|control|rpc|kubernetes|enrol|redirect|zds|install|maps|sys/native)',
        pathNot: '^src/agent/api\\.ts$',
        ...values,
      },
    },
    {
      name: 'executables-only-through-main',
      comment: 'nothing imports the entry',
      severity: 'error',
      from: { pathNot: '^src/main\\.ts$' },
      to: { path: '^src/main\\.ts$' },
    },
    {
      name: 'resolvable',
      comment: 'an import that leads nowhere',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'not-to-dev-dependency',
      comment: 'what runs in production must not need a development package',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev'], ...values },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.json', '.d.ts'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
