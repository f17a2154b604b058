import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { RedisUnavailableError } from '../../src/job/errors.js'
import { isUnavailability, unavailable, type RedisSettings } from '../../src/store/index.js'
import { isLasting } from '../../src/store/redis-faults.js'
import { rememberScript } from '../../src/store/script-source.js'

const named = (name: string, message: string, more: object = {}) => Object.assign(new Error(message), { name, ...more })
const coded = (code: string, message: string) => Object.assign(new Error(message), { code })
const url: RedisSettings = { url: 'rediss://app:secret@redis.example:6390' }
const plain: RedisSettings = { url: 'redis://redis.example' }
const cluster: RedisSettings = { cluster: { nodes: ['redis-1:6379', 'redis-2:6379'] } }
const sentinel: RedisSettings = { sentinel: { nodes: ['sentinel-1:26379'], name: 'jobs' } }

/** What was seen of real servers and of ioredis, how Redis was dialled, whether waiting is of no use, and what the sentence says. */
const table: readonly (readonly [string, Error, RedisSettings, boolean, RegExp])[] = [
  ['an election takes longer than redirections', new Error('Too many Cluster redirections. Last error: ReplyError: MOVED 12385 127.0.0.1:7302'), cluster, false, /the Cluster at redis-1:6379, redis-2:6379 .*start the Cluster, or mend redis.cluster.nodes/],
  ['a Cluster that lost slots', new Error('Too many Cluster redirections. Last error: ReplyError: CLUSTERDOWN The cluster is down'), cluster, false, /CLUSTER SHARDS/],
  ['a Cluster that lost slots, at once', named('ReplyError', 'CLUSTERDOWN Hash slot not served'), cluster, false, /Hash slot not served.*CLUSTER INFO/],
  ['no node of a Cluster', named('ClusterAllFailedError', 'Failed to refresh slots cache.', { lastNodeError: coded('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:7301') }), cluster, false, /ECONNREFUSED.*mend redis.cluster.nodes/],
  ['a Cluster’s client that was closed', new Error('None of startup nodes is available'), cluster, false, /redis.cluster.nodes/],
  ['no node yet', new Error("Cluster isn't ready and enableOfflineQueue options is false"), cluster, false, /redis.cluster.nodes/],
  ['a slot on its way', named('ReplyError', 'TRYAGAIN Multiple keys request during rehashing of slot'), cluster, false, /wait until the slot has been moved/],
  ['a single server dialled as a Cluster', named('ClusterAllFailedError', 'Failed to refresh slots cache.', { lastNodeError: named('ReplyError', 'ERR This instance has cluster support disabled') }), cluster, true, /not a Redis Cluster.*set redis.url instead of redis.cluster/],
  ['a Cluster’s node dialled as a single server', named('ReplyError', 'MOVED 12385 127.0.0.1:7302'), plain, true, /is a node of a Redis Cluster.*set redis.cluster/],
  ['sentinels away', new Error('All sentinels are unreachable. Retrying from scratch after 100ms. Last error: connect ECONNREFUSED 127.0.0.1:7321'), sentinel, false, /"jobs" of the sentinels sentinel-1:26379.*mend redis.sentinel.nodes/],
  ['sentinels away for good', new Error('All sentinels are unreachable and retry is disabled.'), sentinel, false, /redis.sentinel.nodes/],
  ['a name that sentinels do not know', new Error('connected to sentinel 127.0.0.1:7321 successfully, but got an invalid reply: null'), sentinel, true, /know no primary of that name.*redis.sentinel.name/],
  ['Redis dialled as a sentinel', new Error("All sentinels are unreachable. Retrying from scratch after 50ms. Last error: ERR unknown command 'sentinel', with args beginning with: 'get-master-addr-by-name' 'jobs' "), sentinel, true, /no sentinel.*set redis.url instead/],
  ['the sentinels’ password', new Error('All sentinels are unreachable. Retrying from scratch after 50ms. Last error: WRONGPASS invalid username-password pair or user is disabled.'), sentinel, true, /redis.sentinel.password/],
  ['a demoted server', named('ReplyError', "READONLY You can't write against a read only replica."), plain, false, /dial the primary/],
  ['a demoted server, in Lua', named('ReplyError', "READONLY You can't write against a read only replica. script: 3f, on @user_script:1."), plain, false, /dial the primary/],
  ['a demoted server, in a blocking call', named('ReplyError', 'UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)'), plain, false, /became a replica/],
  ['a demoted server, in MULTI', named('ReplyError', 'EXECABORT Transaction discarded because of previous errors.'), plain, false, /try again/],
  ['memory that is full', named('ReplyError', "OOM command not allowed when used memory > 'maxmemory'."), plain, false, /more memory/],
  ['memory that is full, in MULTI', named('ReplyError', 'EXECABORT Transaction discarded because of previous errors.', { previousErrors: [named('ReplyError', "OOM command not allowed when used memory > 'maxmemory'.")] }), plain, false, /\(OOM: its memory is full\); give Redis more memory/],
  ['memory that is full, in an old Lua', named('ReplyError', "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed when used memory > 'maxmemory'."), plain, false, /more memory/],
  ['a disk that is full', named('ReplyError', 'MISCONF Redis is configured to save RDB snapshots'), plain, false, /disk/],
  ['too few replicas', named('ReplyError', 'NOREPLICAS Not enough good replicas to write.'), plain, false, /min-replicas-to-write/],
  ['a start', named('ReplyError', 'LOADING Redis is loading the dataset in memory'), plain, false, /wait until Redis has read/],
  ['a replica without its primary', named('ReplyError', "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), plain, false, /dial the primary/],
  ['a script that does not end', named('ReplyError', 'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.'), plain, false, /SLOWLOG/],
  ['something that is no Redis', new Error('Unknown RESP type 72 "H". Please report this.'), plain, false, /\(something answers there that does not speak the protocol of Redis\); .*mend redis.url; if it speaks TLS there/],
  ['too many clients', named('ReplyError', 'ERR max number of clients reached'), plain, false, /maxclients/],
  ['a wrong password', named('ReplyError', 'WRONGPASS invalid username-password pair or user is disabled.'), plain, true, /correct the user and the password/],
  ['no password', named('ReplyError', 'NOAUTH Authentication required.'), plain, true, /correct the user and the password/],
  ['a command without the right', named('ReplyError', "NOPERM this user has no permissions to run the 'xautoclaim' command", { command: { name: 'xautoclaim' } }), plain, true, /may not run XAUTOCLAIM.*"\+xautoclaim"/],
  ['a subcommand without the right', named('ReplyError', "NOPERM this user has no permissions to run the 'xgroup|create' command"), plain, true, /may not run XGROUP CREATE.*"\+xgroup\|create"/],
  ['keys without the right', named('ReplyError', 'NOPERM this user has no permissions to access one of the keys used as arguments', { command: { name: 'hget' } }), plain, true, /HGET on the deployment’s keys.*~PREFIX/],
  ['channels without the right', named('ReplyError', 'NOPERM this user has no permissions to access one of the channels used as arguments', { command: { name: 'subscribe' } }), plain, true, /SUBSCRIBE on the deployment’s channels.*&PREFIX/],
  ['an authority that nobody knows', coded('SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain'), url, true, /redis.tls.caFile/],
  ['a server’s certificate alone', coded('UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify the first certificate'), url, true, /redis.tls.caFile/],
  ['a certificate that ran out', coded('CERT_HAS_EXPIRED', 'certificate has expired'), url, true, /run out.*renew/],
  ['a certificate for tomorrow', coded('CERT_NOT_YET_VALID', 'certificate is not yet valid'), url, true, /clocks/],
  ['a certificate for another name', coded('ERR_TLS_CERT_ALTNAME_INVALID', "Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames: DNS:redis.internal"), url, true, /redis\.internal.*redis.tls.serverName/],
  ['a client’s certificate that is wanted', coded('ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'ssl3_read_bytes:tlsv13 alert certificate required'), url, true, /asks for a client’s certificate.*redis.tls.certFile/],
  ['a client’s certificate that ran out', coded('ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED', 'sslv3 alert certificate expired'), url, true, /refuses the client’s certificate/],
  ['a client’s certificate of a stranger', coded('ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'tlsv1 alert unknown ca'), url, true, /refuses the client’s certificate/],
  ['TLS where there is none', coded('ERR_SSL_WRONG_VERSION_NUMBER', 'wrong version number'), url, true, /redis:\/\/ instead of rediss:\/\//],
  ['hanging up on TLS without a client’s certificate', coded('ECONNRESET', 'read ECONNRESET'), url, false, /redis.tls.certFile and keyFile/],
  ['hanging up before TLS is there', coded('ECONNRESET', 'Client network socket disconnected before secure TLS connection was established'), url, false, /redis.tls.certFile/],
  ['hanging up on what is no TLS', coded('ECONNRESET', 'read ECONNRESET'), plain, false, /rediss:\/\//],
  ['silence where TLS was begun', coded('ETIMEDOUT', 'connect ETIMEDOUT'), url, false, /speaks no TLS there, write redis:\/\//],
  ['a name that does not exist', coded('ENOTFOUND', 'getaddrinfo ENOTFOUND redis.exmple'), plain, true, /mend redis.url/],
  ['a name server away', coded('EAI_AGAIN', 'getaddrinfo EAI_AGAIN redis.example'), plain, false, /mend redis.url/],
  ['nobody there', coded('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:6379'), plain, false, /start Redis there, or mend redis.url/],
  ['nobody there in two ways', coded('ECONNREFUSED', ''), plain, false, /\(ECONNREFUSED\)/],
  ['no way there', coded('EHOSTUNREACH', 'connect EHOSTUNREACH 10.0.0.1:6379'), plain, false, /start Redis/],
  ['no socket', coded('ENOENT', 'connect ENOENT /run/redis.sock'), { url: '/run/redis.sock' }, false, /start Redis/],
  ['a connection that was lost', new Error('Connection is closed.'), plain, false, /start Redis/],
  ['a write that goes nowhere', new Error("Stream isn't writeable and enableOfflineQueue options is false"), plain, false, /\(the connection was lost\); start Redis/],
  ['a call that was under way', named('MaxRetriesPerRequestError', 'Reached the max retries per request limit (which is 0). Refer to "maxRetriesPerRequest" option for details.'), plain, false, /\(the connection was lost\); start Redis/],
  ['a command that was taken away', named('ReplyError', "ERR unknown command 'evalsha', with args beginning with: 'd1f2' '3' "), plain, true, /\(it does not know the command EVALSHA\); .*rename-command/],
  ['a command that was taken away, in Lua', named('ReplyError', 'ERR Unknown Redis command called from script script: 0000, on @user_script:1.'), plain, true, /\(it does not know a command of a script\)/],
  ['a database that it does not have', named('ReplyError', 'ERR DB index is out of range'), plain, true, /does not have the database.*redis\.db/],
  ['a Cluster’s only database', named('ReplyError', 'ERR SELECT is not allowed in cluster mode'), plain, true, /does not have the database/],
  ['no answer', new Error('Socket timeout. Expecting data, but didn’t receive any in 3000ms.'), plain, false, /start Redis/],
]

describe('what is told of a Redis that can’t be used', () => {
  it.each(table)('%s', (_name, error, settings, lasting, says) => {
    expect(isUnavailability(error)).toBe(true)
    expect(isLasting(error)).toBe(lasting)
    const told = unavailable(settings, error)
    expect(told).toBeInstanceOf(RedisUnavailableError)
    expect(told.message).toMatch(says)
    expect(told.message).toMatch(/^redis: [^\n]+; [^\n]*[^.\n]$/)
    expect(told.message).not.toContain('secret')
    expect(told.mend).not.toBe('')
    // What has come by two is said once, and none of it in Redis' own words where we have better ones.
    expect(unavailable(settings, told)).toBe(told)
    expect(told.message).not.toMatch(/user_script|maxmemory'|Transaction discarded|is configured to save/)
  })

  it('and not of an error of one command, or of anything else', () => {
    for (const message of ['WRONGTYPE Operation against a key holding the wrong kind of value', 'BUSYGROUP Consumer Group name already exists', 'NOGROUP No such key', 'ERR value is not an integer', "ENOENT: no such file or directory, open '/x'", "EACCES: permission denied, open '/x'", 'EBUSY: resource busy', 'Missing key for job 1. updateProgress', 'task was asked to move']) {
      expect(isUnavailability(named('ReplyError', message)), message).toBe(false)
    }
    expect(isUnavailability('ECONNREFUSED')).toBe(false)
  })

  it('names a command that was refused within a script, of which Redis tells the line alone', () => {
    const lua = "local a = 1\nredis.call('XTRIM', KEYS[1], 'MAXLEN', 1)\n"
    rememberScript(lua)
    const message = (sha: string) => `ERR The user executing the script can't run this command or subcommand script: ${sha}, on @user_script:2.`
    expect(unavailable(plain, new Error(message(createHash('sha1').update(lua).digest('hex')))).message).toMatch(/may not run XTRIM.*"\+xtrim"/)
    expect(unavailable(plain, new Error(message('0'.repeat(40)))).message).toMatch(/may not run a command of a script.*ACL LOG/)
  })
})
