/** Imports point one way: server and command line → app → routes and plugins → services → (messages of) inference. */
module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'inference-imports-nothing-above',
      severity: 'error',
      comment: 'What computes knows nothing of Fastify, Redis or Supabase.',
      from: { path: '^src/inference' },
      to: { path: '^src/', pathNot: '^src/(inference|lib)' },
    },
    {
      name: 'services-know-inference-by-message-only',
      severity: 'error',
      from: { path: '^src/services' },
      to: {
        path: '^src/inference',
        pathNot: '^src/inference/(engine-protocol|generation|checkpoint/model-layout)',
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'services-do-not-know-http',
      severity: 'error',
      from: { path: '^src/services' },
      to: { path: '^(src/(routes|plugins|app|server|cli)|node_modules/(fastify|@fastify))' },
    },
    {
      name: 'only-services-index-knows-the-config',
      severity: 'error',
      from: {
        path: '^src/(services|routes|plugins|contract|lib)',
        pathNot: '^src/services/([a-z]+/index|index)\\.ts$',
      },
      to: { path: '^src/config', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'routes-reach-down-through-services',
      severity: 'error',
      from: { path: '^src/(routes|plugins)' },
      to: {
        path: '^src/(inference|server|cli)',
        pathNot: '^src/inference/generation',
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'nothing-imports-the-server',
      severity: 'error',
      from: { pathNot: '^src/cli' },
      to: { path: '^src/server' },
    },
    {
      name: 'nothing-imports-tests',
      severity: 'error',
      from: { path: '^src' },
      to: { path: '^(test|bench|tools)/' },
    },
    {
      name: 'declared-packages-only',
      severity: 'error',
      from: { path: '^src' },
      to: {
        dependencyTypes: ['npm-dev', 'npm-no-pkg', 'unknown', 'undetermined'],
        dependencyTypesNot: ['type-only'],
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
    },
  },
};
