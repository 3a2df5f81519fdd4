/**
 * A vitest reporter that writes what scripts/tally.mjs counts: vitest's own JSON report knows neither why a test was
 * skipped nor the errors that belong to no test (a hook, a file that does not load, an unhandled rejection).
 */
import { writeFileSync } from 'node:fs'

export default class Report {
  onTestRunEnd(modules, unhandledErrors) {
    const report = { passed: 0, failed: unhandledErrors.length, skipped: [] }
    for (const module of modules) {
      report.failed += module.errors().length
      for (const suite of module.children.allSuites()) report.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state, note = 'it gives no reason' } = test.result()
        if (state === 'passed') report.passed++
        else if (state === 'skipped')
          report.skipped.push(`${module.relativeModuleId} > ${test.fullName}: ${note}`)
        // A test that is still pending when the run ends did not pass.
        else report.failed++
      }
    }
    writeFileSync(process.env.FD_REACTOR_REPORT, JSON.stringify(report))
  }
}
