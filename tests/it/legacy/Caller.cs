// .NET's HttpWebRequest under mono, which expects 100-continue by default: one call of each kind, a line for each.
using System;
using System.IO;
using System.Linq;
using System.Net;

static class Caller
{
    static readonly byte[] Body = Enumerable.Repeat((byte)'k', 100000).ToArray();

    static void Main(string[] arguments)
    {
        var start = arguments[0];
        Say("get", Open(start + "/bytes/1000", "GET"), 1000);
        Send("post", start, false);
        Send("chunked", start, true);
        Expect(start, arguments[1]);
    }

    static HttpWebRequest Open(string url, string method)
    {
        var request = (HttpWebRequest)WebRequest.Create(url);
        request.Method = method;
        request.Proxy = null;
        return request;
    }

    static void Expect(string start, string hash)
    {
        var request = Open(start + "/report", "POST");
        request.ServicePoint.Expect100Continue = true;
        request.ContentLength = Body.Length;
        using (var stream = request.GetRequestStream()) stream.Write(Body, 0, Body.Length);
        using (var answer = request.GetResponse())
        using (var reader = new StreamReader(answer.GetResponseStream()))
        {
            var report = reader.ReadToEnd();
            Console.WriteLine("expect " + (report.Contains(hash) ? "ok" : report));
        }
    }

    static void Send(string what, string start, bool chunked)
    {
        var request = Open(start + "/echo", "POST");
        request.ServicePoint.Expect100Continue = false;
        request.AllowWriteStreamBuffering = false;
        if (chunked) request.SendChunked = true; else request.ContentLength = Body.Length;
        using (var stream = request.GetRequestStream()) stream.Write(Body, 0, Body.Length);
        Say(what, request, Body.Length);
    }

    static void Say(string what, HttpWebRequest request, int expected)
    {
        using (var answer = (HttpWebResponse)request.GetResponse())
        using (var stream = answer.GetResponseStream())
        {
            var content = new MemoryStream();
            stream.CopyTo(content);
            var same = expected == 1000 ? content.Length == 1000 : content.ToArray().SequenceEqual(Body);
            Console.WriteLine(what + " " + (answer.StatusCode == HttpStatusCode.OK && same ? "ok" : "bad " + content.Length));
        }
    }
}
