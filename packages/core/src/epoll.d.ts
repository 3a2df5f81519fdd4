/** The npm package `epoll` has no types of its own. */
declare module 'epoll' {
  /** Watches descriptors from a thread of its own and calls back once for each event. */
  export class Epoll {
    static readonly EPOLLIN: number
    static readonly EPOLLOUT: number
    static readonly EPOLLPRI: number
    static readonly EPOLLRDHUP: number
    static readonly EPOLLERR: number
    static readonly EPOLLHUP: number
    static readonly EPOLLET: number
    static readonly EPOLLONESHOT: number
    constructor(callback: (error: Error | null, fd: number, events: number) => void)
    readonly closed: boolean
    add(fd: number, events: number): this
    modify(fd: number, events: number): this
    remove(fd: number): this
    close(): null
  }
}
