package classifier

/** What is wrong with a picture. [code] is that of the HTTP contract, the message is for the person. */
class Problem(val code: String, message: String, cause: Throwable? = null) : Exception(message, cause)
